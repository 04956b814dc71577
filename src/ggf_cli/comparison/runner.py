"""A comparison from the first piece to the last: drawn, kept, judged, written down.

Repeat by repeat, every cell gets its next piece, and the document is written anew. So a comparison
that is stopped has all its cells, with fewer repeats; the same request goes on from there.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from itertools import chain
from pathlib import Path
from statistics import fmean
from typing import Any

from ggf_cli.comparison import document, pieces
from ggf_cli.comparison.analysis import summarise
from ggf_cli.comparison.folder import SCHEMA, claimed, holds_other_files, read_document
from ggf_cli.comparison.lineup import Cell
from ggf_cli.comparison.pieces import Piece
from ggf_cli.comparison.report import COMPARISON
from ggf_cli.comparison.team import SAMPLES, Team
from ggf_cli.engine import Engine, Progress
from ggf_cli.errors import GGFError, JobError, OutputError, SolveError
from ggf_cli.runs.layout import write_atomically
from ggf_cli.score import ScoreModel
from ggf_cli.solvers import make_solver
from ggf_cli.solvers.catalog import as_words, read_catalog

PICTURES = 16  # samples of each cell that are drawn side by side
FLOOR_DRAWS = 5
LONG = 24  # characters of a value in a label
IDENTITY = (
    "model",
    "precision",
    "compiled",
    "seed",
    "n",
    "repeats",
)  # another comparison if one differs


@dataclass(frozen=True, kw_only=True)
class Request:
    """What is compared, everything decided.

    Attributes:
        model: In its precision.
        cells: In the order in which they are drawn.
        evaluators: The metrics; the first one decides.
        n: Samples a repeat.
        repeats: Repeats.
        seed: Sample indices 0 .. n repeats - 1 belong to it.
        batch_size: Rows per network call.
        folder: Where everything goes.
        command: Repeats the comparison.
        model_argument: What `ggf sample --model` takes.
        expected_nfe: Evaluations a sample of each cell will take, about.
        budget_s: The time budget that `n` was chosen by, if any.
        preset: Its name, if any.
        published: {cell id: {"nfe", "fid"}} of the paper.
        summary: One line about the model.
        config: What `ggf sample --config` takes, if anything.
        notes: What was decided before, for people.
    """

    model: ScoreModel
    cells: Sequence[Cell]
    evaluators: Sequence[Any]
    n: int
    repeats: int
    seed: int
    batch_size: int
    folder: Path
    command: str
    model_argument: str
    expected_nfe: Mapping[str, float] = field(default_factory=dict)
    budget_s: float | None = None
    preset: str | None = None
    published: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    summary: str | None = None
    config: str | None = None
    notes: Sequence[str] = ()


class Watcher:
    """Is told how a comparison goes on; the one here does not care."""

    def piece(self, cell: Cell, label: str, repeat: int, kept: bool) -> None:
        """The next piece; kept: it was drawn before."""

    def tick(self, progress: Progress) -> None:
        """The piece moves on."""

    def memory(self, batch_size: int) -> None:
        """Memory has run out: so many rows per call from now on."""

    def ended(self, cell: Cell, nfe: float | None) -> None:
        """The piece has ended, at so many evaluations a sample; None if the cell has failed."""


class Comparison:
    """Draws what a request wants.

    Args:
        request: What.
        team: The processes of a job, if there are several to draw it.

    Raises:
        UsageError: An option is out of range, or a solver cannot solve the model's SDE.
        OutputError: The folder holds another comparison, or cannot be written to.
    """

    def __init__(self, request: Request, team: Team | None = None) -> None:
        self._request = request
        self._team = team
        self._watcher = Watcher()
        self._stop: Callable[[], bool] | None = None
        self._batch_size = request.batch_size  # becomes smaller when memory runs out
        self._started = datetime.now().astimezone()
        self._pieces: dict[str, list[Piece]] = {cell.id: [] for cell in request.cells}
        # of each piece: {metric: its groups}
        self._groups: dict[str, list[dict[str, list[float]]]] = {c.id: [] for c in request.cells}
        self._errors: dict[str, str] = {}
        self._settled: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {}  # given, all options
        self._check()
        self._frame = self._describe()
        self._same_as_before()

    def run(
        self, watcher: Watcher | None = None, stop: Callable[[], bool] | None = None
    ) -> dict[str, Any]:
        """Draw all pieces; the comparison.

        Args:
            watcher: Is told how it goes on.
            stop: Asked at every tick whether to end here.

        Raises:
            KeyboardInterrupt: It was to end; `result` has what there is.
        """
        self._watcher, self._stop = watcher or self._watcher, stop
        with claimed(self._request.folder), self._team or nullcontext():
            result = self._write()
            for repeat in range(self._request.repeats):
                for cell in self._request.cells:
                    if cell.id not in self._errors:
                        self._next_piece(cell, repeat)
                        result = self._write()
        return result  # what the file has, to the second

    def result(self) -> dict[str, Any]:
        """The document as it stands."""
        cells = [self._cell(cell) for cell in self._request.cells]
        ended = all(cell["error"] or cell["pieces"] == self._request.repeats for cell in cells)
        return document.conclude(
            self._frame
            | {
                "status": "completed" if ended else "interrupted",
                "finished_at": datetime.now().astimezone().isoformat(timespec="seconds"),
                "cells": cells,
            }
        )

    def pictures(self) -> dict[str, Any]:
        """The first few samples of each cell, {cell id: (k, C, H, W) float32 in [0, 1]}."""
        first = {name: drawn[0].images for name, drawn in self._pieces.items() if drawn}
        return {name: images.float() / 255 for name, images in first.items()}

    # --- drawing -----------------------------------------------------------------------------------------

    def _check(self) -> None:
        """Meet what is wrong with an option before anything is drawn."""
        for cell in self._request.cells:
            Engine(self._request.model, make_solver(cell.solver, cell.given))

    def _next_piece(self, cell: Cell, repeat: int) -> None:
        """Draw and evaluate one piece, or take it from its file; what fails is told in the cell's row."""
        try:
            piece = self._draw(cell, repeat)
            # The samples are on disk: memory must not grow with their number.
            self._pieces[cell.id].append(piece.first(PICTURES))
            if piece.lost == len(piece.nfe):
                raise SolveError(f"none of {piece.lost} samples reached the end")
            self._groups[cell.id].append(
                {
                    evaluator.name: evaluator.groups(
                        piece.x if evaluator.sample_form == "x" else piece.images
                    )
                    for evaluator in self._request.evaluators
                }
            )
        except (OutputError, JobError):  # a full disk spoils all cells alike
            raise
        except (GGFError, RuntimeError, MemoryError) as error:
            self._errors[cell.id] = str(error).splitlines()[0] if str(error) else repr(error)
            self._watcher.ended(cell, None)
        else:
            self._watcher.ended(cell, float(piece.nfe.double().mean()))

    def _draw(self, cell: Cell, repeat: int) -> Piece:
        request, given = self._request, self._given(cell)
        solver = make_solver(cell.solver, given)
        engine = Engine(request.model, solver, seed=request.seed, batch_size=self._batch_size)
        self._settled[cell.id] = given, engine.solver.options()
        indices = range(repeat * request.n, (repeat + 1) * request.n)
        settings = pieces.settings_of(engine, indices)
        path = request.folder / SAMPLES / f"{cell.id}-{repeat}.npz"
        piece = pieces.kept(path, settings)
        self._watcher.piece(cell, self._label(cell), repeat, kept=piece is not None)
        if piece is None:
            keep_x = any(evaluator.sample_form == "x" for evaluator in request.evaluators)
            tick = partial(self._tick, engine)
            if self._team:
                piece = self._team.draw(engine, indices, given, keep_x=keep_x, on_tick=tick)
            else:
                piece = pieces.draw(engine, indices, keep_x=keep_x, on_tick=tick)
            pieces.keep(path, piece, settings)
        return piece

    def _tick(self, engine: Engine, progress: Progress) -> None:
        if engine.batch_size < self._batch_size:
            self._batch_size = engine.batch_size
            self._watcher.memory(engine.batch_size)
        self._watcher.tick(progress)
        if self._stop is not None and self._stop():
            raise KeyboardInterrupt

    def _given(self, cell: Cell) -> dict[str, Any]:
        """The options, with the NFE of the cell that it matches, as the first piece of that has it."""
        if cell.matches is None:
            return dict(cell.given)
        drawn = self._pieces[cell.matches]
        if not drawn:
            raise SolveError(f"{cell.matches}, whose NFE it was to have, has failed")
        return {**cell.given, "nfe": round(float(drawn[0].nfe.double().mean()))}

    # --- telling -----------------------------------------------------------------------------------------

    def _describe(self) -> dict[str, Any]:
        """What the document says whatever comes of the drawing."""
        request = self._request
        assumed = (request.model.provenance or {}).get("assumptions", ())
        return {
            "schema": SCHEMA,
            "command": request.command,
            "started_at": self._started.isoformat(timespec="seconds"),
            "model": document.about_model(request.model, request.summary),
            **document.about_machine(request.model),
            "precision": request.model.precision,
            "compiled": request.model.compiled,
            "batch_size": request.batch_size,
            "seed": request.seed,
            "n": request.n,
            "repeats": request.repeats,
            "budget_s": request.budget_s,
            "preset": request.preset,
            "notes": list(dict.fromkeys([*request.notes, *assumed])),
            "metrics": [
                document.about_metric(evaluator, request.n, self._floor(evaluator))
                for evaluator in request.evaluators
            ],
            "files": [],
        }

    def _floor(self, evaluator: Any) -> dict[str, Any] | None:
        floor = evaluator.floor(self._request.n, FLOOR_DRAWS)
        if floor is None:
            return None
        said = summarise(floor.values)
        return {key: said[key] for key in ("values", "mean", "se")} | {"what": floor.what}

    def _cell(self, cell: Cell) -> dict[str, Any]:
        drawn, groups = self._pieces[cell.id], self._groups[cell.id]
        error = self._errors.get(cell.id)
        quality = {
            name: summarise(
                [fmean(g[name]) for g in groups], list(chain.from_iterable(g[name] for g in groups))
            )
            for name in (groups or [{}])[0]
        }
        given, options = self._settled.get(cell.id) or (
            dict(cell.given),
            make_solver(cell.solver, cell.given).options(),
        )
        return document.about_cell(
            cell,
            drawn,
            quality,
            label=self._label(cell),
            options=options,
            adaptive=bool(read_catalog()[cell.solver]["adaptive"]),
            status="failed" if error else "done" if drawn else "pending",
            error=error,
            command=self._sample_command(cell, given),
            published=dict(self._request.published.get(cell.id, {})) or None,
        )

    def _label(self, cell: Cell) -> str:
        """ "adaptive eps-rel 0.05"; a matched one says at how many evaluations."""
        words = [f"{key.replace('_', '-')} {_spoken(value)}" for key, value in cell.given.items()]
        if cell.matches is not None and (drawn := self._pieces[cell.matches]):
            words.append(f"nfe {float(drawn[0].nfe.double().mean()):.0f}")
        return " ".join([cell.solver, *words])

    def _sample_command(self, cell: Cell, given: Mapping[str, Any]) -> str:
        words = ["ggf", "sample", "--model", self._request.model_argument]
        words += ["--config", self._request.config] if self._request.config else []
        return shlex.join([*words, "--solver", cell.solver, *as_words(given)])

    # --- the folder --------------------------------------------------------------------------------------

    def _same_as_before(self) -> None:
        """Refuse to mix two comparisons in one folder."""
        before = read_document(self._request.folder)
        if before is None:
            if holds_other_files(self._request.folder):
                raise OutputError(
                    f"the folder {self._request.folder} is not empty and has no comparison",
                    hint="give another folder with --out",
                )
            return
        now = self._frame
        differs = [key for key in IDENTITY if before.get(key) != now[key]]
        if [_identity(c) for c in before["cells"]] != [
            _identity(self._cell(c)) for c in self._request.cells
        ]:
            differs.append("cells")
        if differs:
            raise OutputError(
                f"{self._request.folder} holds another comparison: it differs in {', '.join(differs)}",
                hint="give another folder with --out",
            )
        self._frame = self._frame | {"started_at": before["started_at"]}

    def _write(self) -> dict[str, Any]:
        result = self.result()
        write_atomically(
            self._request.folder / COMPARISON, (json.dumps(result, indent=1) + "\n").encode()
        )
        return result


def _identity(cell: Mapping[str, Any]) -> tuple[Any, ...]:
    return tuple(cell.get(key) for key in ("id", "solver", "given", "matches"))


def _spoken(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    text = str(value)
    return text if len(text) <= LONG else f"{text[: LONG // 2]}…{text[-LONG // 4 :]}"
