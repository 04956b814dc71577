"""What `ggf sample` does once everything is decided: draw, write, and tell how it ended."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from time import perf_counter
from typing import TYPE_CHECKING, Any

from ggf_cli import __version__
from ggf_cli.cli import console
from ggf_cli.cli.interrupt import graceful_interrupt
from ggf_cli.cli.progress import reporter
from ggf_cli.errors import OutputError, SolveError

if TYPE_CHECKING:
    from pathlib import Path

    from ggf_cli.engine import Engine, Progress
    from ggf_cli.runs.distributed import Job
    from ggf_cli.runs.history import History
    from ggf_cli.runs.writer import RunWriter, Spent

Record = Mapping[str, Any]

PATIENCE_S = 5.0  # for the others, when all are to stop


def spending(engine: Engine) -> Callable[[], Spent]:
    """What tells the network calls, rows and seconds since now."""
    clock = perf_counter()

    def spent() -> Spent:
        progress = engine.progress
        return progress.network_calls, progress.rows_evaluated, round(perf_counter() - clock, 3)

    return spent


def run(
    engine: Engine,
    wanted: Sequence[int],
    writer: RunWriter,
    frame: Mapping[str, Any],
    *,
    load_s: float,
    quiet: bool,
    job: Job | None = None,
) -> tuple[dict[str, Any], Exception | None]:
    """Draw and write what is left; the run log, and the error to end with.

    Args:
        engine: Fresh.
        wanted: All samples of the run.
        writer: Knows which of them are finished.
        frame: What the run is.
        load_s: Seconds so far.
        quiet: Show no progress.
        job: The job that this process leads, if it is not alone.
    """
    from ggf_cli.runs.history import read_history

    with graceful_interrupt(insist=job is None) as interrupted:
        left = [index for index in wanted if index not in writer.finished]
        kept, nfe_kept = len(writer.finished), sum(r["nfe"] for r in writer.finished.values())
        shown = reporter(len(wanted), engine.solver, quiet=quiet or not left)
        with shown as report:

            def show(progress: Progress) -> None:
                total = job.total(progress) if job else progress
                finished, nfe = kept + total.finished, nfe_kept + total.nfe_finished
                report(replace(total, finished=finished, nfe_finished=nfe))

            failure = _draw(engine, left, writer, interrupted, show, job)
            if job and failure is None:
                _wait(job, engine, interrupted, show)
                if history := read_history(writer.folder):
                    writer.collect(history)
        if failure is not None:
            status = "failed"
        else:
            status = "completed" if len(writer.finished) == len(wanted) else "interrupted"
        return _conclude(engine, wanted, writer, frame, status, failure, load_s)


def follow(engine: Engine, left: Sequence[int], writer: RunWriter, job: Job) -> bool:
    """Draw what falls to a process that does not lead; False if it was interrupted.

    Raises:
        GGFError: It could not go on.
    """
    with graceful_interrupt(insist=False) as interrupted:
        failure = _draw(engine, left, writer, interrupted, lambda progress: None, job)
        if failure is not None:
            raise failure
        return not interrupted()


def _draw(
    engine: Engine,
    left: Sequence[int],
    writer: RunWriter,
    interrupted: Callable[[], bool],
    show: Callable[[Progress], None],
    job: Job | None,
) -> Exception | None:
    """Run the engine into the writer, to the end or until it is interrupted; the error that came between."""
    from ggf_cli.runs.background import background

    rows = engine.batch_size

    def on_tick(progress: Progress) -> None:
        nonlocal rows
        if engine.batch_size < rows:
            console.note(f"out of memory at batch size {rows}: going on with {engine.batch_size}")
            rows = engine.batch_size
        show(progress)
        queue.check()
        if interrupted() and progress.running:
            raise KeyboardInterrupt

    samples = job.share(engine, left, on_tick) if job else engine.run(left, on_tick)
    try:
        with background(writer.add, writer.room) as queue, suppress(KeyboardInterrupt):
            for finished in samples:
                queue.put(finished, writer.spent())
        writer.end()
        if job:
            job.done()
    except Exception as error:  # noqa: BLE001 - whatever it is, the run gets its log first
        with suppress(OutputError):
            writer.end()
        return _explained(error, engine)
    return None


def _wait(
    job: Job,
    engine: Engine,
    interrupted: Callable[[], bool],
    show: Callable[[Progress], None],
) -> None:
    """Wait for the other processes; not long if all are to stop."""
    patience = PATIENCE_S

    def idle() -> bool:
        nonlocal patience
        job.publish(engine.progress)
        show(engine.progress)
        patience -= 0.1 if interrupted() else 0
        return patience > 0

    job.wait_for_all(idle)


def _conclude(
    engine: Engine,
    wanted: Sequence[int],
    writer: RunWriter,
    frame: Mapping[str, Any],
    status: str,
    failure: Exception | None,
    load_s: float,
) -> tuple[dict[str, Any], Exception | None]:
    """Write what comes last; a run that has ended needs no journal any more."""
    import torch

    from ggf_cli.runs.folder import RUN_LOG, write_atomically
    from ggf_cli.runs.run_log import as_json, run_log

    files: list[dict[str, str]] = []
    # A full disk may have room for one of these and not for the other.
    try:
        files = writer.close({"ggf": frame["command"], "ggf-version": __version__})
    except OutputError as error:
        status, failure = "failed", failure or error
    ended = len(writer.finished) == len(wanted) and failure is None
    if ended and (lost := [s for s in writer.finished.values() if s["status"] != "done"]):
        status, failure = "failed", lost_samples(lost, len(wanted), engine.solver.name)
    log = run_log(
        frame,
        status=status,
        sessions=writer.sessions(),
        running_nfe=sum(engine.progress.running_nfe),
        load_s=load_s,
        samples=writer.samples,
        files=files,
        device=torch.device(engine.model.device),
    )
    try:
        write_atomically(writer.folder / RUN_LOG, as_json(log), durable=True)
    except OutputError as error:
        raise failure or error from error
    if ended:
        tidy(writer.folder)
    return log, failure


def tidy(folder: Path) -> None:
    """Remove what a run that has ended needs no more; the run is complete even where that fails."""
    from ggf_cli.runs.journal import remove_journals

    try:
        remove_journals(folder)
    except OSError as error:
        there = error.filename or folder
        console.note(f"cannot remove {there}: {error.strerror}; the run has ended all the same")


def earlier(folder: Path, frame: Mapping[str, Any]) -> History | dict[str, Any] | None:
    """What there is to resume: the journals of a run, the log of one that has ended, or nothing.

    Raises:
        OutputError: Another run, one that cannot be resumed, or a damaged one.
    """
    from ggf_cli.runs.folder import RUN_LOG
    from ggf_cli.runs.history import is_there, journal_path, read_frame, read_history
    from ggf_cli.runs.load import find_record
    from ggf_cli.runs.resume import differences

    journal, log = journal_path(folder, 0), None
    try:
        unended = is_there(journal)
        if not unended and not is_there(folder / RUN_LOG):
            return None
    except OSError as error:
        raise OutputError(f"cannot read {folder}: {error.strerror}") from error
    if not unended:
        log = find_record(folder / RUN_LOG).log
    # Before all of the journal is read: that of another run may be of any length.
    if different := differences(log or read_frame(journal), frame):
        raise OutputError(
            f"{folder} holds a run with other settings: {'; '.join(different)}",
            hint="resume with the settings that it had, or give another folder with --out",
        )
    if log and len(log["samples"]) < log["num_samples"]:
        raise OutputError(
            f"the run in {folder} did not end, and its journal is not there",
            hint="draw it again with --force",
        )
    return log or read_history(folder)


def failure_of(log: Mapping[str, Any]) -> Exception | None:
    """The error that a run ended with, from its log."""
    lost = [sample for sample in log["samples"] if sample["status"] != "done"]
    return lost_samples(lost, log["num_samples"], log["solver"]["name"]) if lost else None


def lost_samples(lost: Sequence[Record], wanted: int, solver: str) -> SolveError:
    """The error for samples that did not reach the end."""
    reasons = {
        "non_finite": "met a score or a state that is not finite",
        "max_nfe": "ran out of evaluations",
    }
    kinds = sorted({sample["status"] for sample in lost})
    first = min(lost, key=lambda sample: sample["index"])
    reached = f"at t={first['t']:.3f} after" if "t" in first else "after"
    return SolveError(
        f"{len(lost)} of {wanted} samples {' or '.join(reasons[kind] for kind in kinds)}, by {solver};"
        f" the first is index {first['index']}, {reached} {first['nfe']} evaluations",
        hint="raise --max-nfe or loosen the tolerance"
        if kinds == ["max_nfe"]
        else "take smaller steps: a smaller --eps-rel, or more --steps",
    )


def _explained(error: Exception, engine: Engine) -> Exception:
    """The error as the user meets it."""
    from ggf_cli.runtime.memory import out_of_memory

    if not out_of_memory(error):  # the network's memory is the engine's business, this is the rest
        return error
    where = f"{engine.model.name}, batch size {engine.batch_size}"
    return SolveError(
        f"out of memory ({where}): {(str(error) or 'no more to be had').splitlines()[0]}",
        hint="a smaller --batch-size",
    )
