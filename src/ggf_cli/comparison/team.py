"""The processes of a job draw the pieces of a comparison together.

Rank 0 says which piece is next. Every process draws the samples of it that fall to it and leaves them in a file of its own, in
`samples/.parts`; rank 0 puts them together, and evaluates and writes the piece as it does alone.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from itertools import count
from pathlib import Path
from time import perf_counter
from types import TracebackType
from typing import Any, Self

from ggf_cli.comparison import pieces
from ggf_cli.comparison.pieces import Piece, Share
from ggf_cli.comparison.report import COMPARISON
from ggf_cli.engine import Engine, Progress
from ggf_cli.errors import JobError, OutputError, SolveError
from ggf_cli.runs.distributed import Job
from ggf_cli.runs.layout import PARTS, remove_tree
from ggf_cli.runtime import compilation
from ggf_cli.score import ScoreModel
from ggf_cli.solvers import make_solver

SAMPLES = "samples"
INTERRUPTED = 130  # exit code


class Team:
    """What rank 0 draws pieces with. Within its context the others wait for the next piece; afterwards they end.

    Args:
        job: This process, which leads.
        folder: Of the comparison, which all processes see.
    """

    def __init__(self, job: Job, folder: Path) -> None:
        self._job = job
        self._folder = folder
        self._scopes = map(_scope, count())

    def __enter__(self) -> Self:
        self._remove_shares()  # of processes that died
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if isinstance(error, JobError):
            return
        last = self._job.within(next(self._scopes))
        if error is None:
            last.end_workers(0)
        else:  # torchrun ends them too
            last.broadcast({"exit": INTERRUPTED})
        self._remove_shares()

    def _remove_shares(self) -> None:
        with suppress(OSError):  # what stays is taken for nothing else: it has its settings in it
            remove_tree(_parts(self._folder))

    def draw(
        self,
        engine: Engine,
        indices: range,
        given: Mapping[str, Any],
        *,
        keep_x: bool,
        on_tick: Callable[[Progress], None],
    ) -> Piece:
        """Draw a piece; the arguments are those of `pieces.draw`, with the options that the solver was made with.

        Raises:
            SolveError: One of the processes could not go on.
        """
        start, scope = perf_counter(), self._job.within(next(self._scopes))
        settings = pieces.settings_of(engine, indices)
        order = {"given": dict(given), "batch_size": engine.batch_size, "keep_x": keep_x}
        scope.broadcast(order | {"settings": settings})

        def tick(progress: Progress) -> None:
            on_tick(scope.total(progress))

        def idle() -> bool:
            scope.publish(engine.progress)
            tick(engine.progress)
            return True

        try:
            own = pieces.draw_share(engine, indices, keep_x=keep_x, on_tick=tick, job=scope)
        except (SolveError, RuntimeError, MemoryError) as error:
            scope.fail(_line(error))
            raise
        scope.done()
        scope.wait_for_all(idle)
        if why := scope.failure():
            raise SolveError(why)
        shares = [own]
        for rank in range(1, self._job.world):
            share = pieces.kept_share(_path(self._folder, rank), settings)
            if share is None:
                raise OutputError(f"what rank {rank} has drawn is not in {_parts(self._folder)}")
            shares.append(share)
        return replace(pieces.together(shares), seconds=perf_counter() - start)


def follow(job: Job, model: ScoreModel, folder: Path, stop: Callable[[], bool]) -> int:
    """Draw what falls to a process that does not lead, until rank 0 says that it is over; the exit code.

    Args:
        job: This process.
        model: In its precision.
        folder: Of the comparison.
        stop: Asked at every tick whether to end here.

    Raises:
        OutputError: Disk full, other settings than rank 0's, or another folder.
    """
    try:
        for number in count():
            scope = job.within(_scope(number))
            order = scope.receive(stop)
            if "exit" in order:
                return int(order["exit"])
            engine = _engine(order, model, folder)
            if number == 0 and model.compiled:
                compilation.warm_up(model, engine.batch_size)
            _take_part(scope, engine, order, folder, stop)
            scope.done()
    except KeyboardInterrupt:
        pass
    return INTERRUPTED


def _engine(order: Mapping[str, Any], model: ScoreModel, folder: Path) -> Engine:
    """What draws the samples that are wanted, if this process is as rank 0 is."""
    wanted = order["settings"]
    solver = make_solver(wanted["solver"], order["given"])
    engine = Engine(model, solver, seed=wanted["seed"], batch_size=order["batch_size"])
    own = pieces.settings_of(engine, range(*wanted["indices"]))
    if different := [key for key in own if _text(own[key]) != _text(wanted[key])]:
        raise OutputError(
            f"its settings are not those of rank 0: {', '.join(different)}",
            hint="start all processes of a job with the same words, on machines of one kind",
        )
    if not os.path.lexists(folder / COMPARISON):
        raise OutputError(
            f"the folder {folder} is not the one that rank 0 writes to",
            hint="give a folder that all machines of the job share",
        )
    return engine


def _take_part(
    scope: Job, engine: Engine, order: Mapping[str, Any], folder: Path, stop: Callable[[], bool]
) -> None:
    def tick(progress: Progress) -> None:
        if stop():
            raise KeyboardInterrupt

    indices = range(*order["settings"]["indices"])
    try:
        share: Share = pieces.draw_share(
            engine, indices, keep_x=order["keep_x"], on_tick=tick, job=scope
        )
    except (SolveError, RuntimeError, MemoryError) as error:
        scope.fail(f"rank {scope.rank}: {_line(error)}")
    else:
        pieces.keep(_path(folder, scope.rank), share, order["settings"])


def _scope(number: int) -> str:
    return f"piece/{number}"


def _parts(folder: Path) -> Path:
    return folder / SAMPLES / PARTS


def _path(folder: Path, rank: int) -> Path:
    return _parts(folder) / f"{rank}.npz"


def _text(value: Any) -> str:
    return pieces.canonical({"": value})


def _line(error: Exception) -> str:
    return str(error).splitlines()[0] if str(error) else repr(error)
