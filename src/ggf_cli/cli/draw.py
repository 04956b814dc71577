"""What `ggf sample` does once everything is decided: draw, write, and tell how it ended."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from time import perf_counter
from typing import TYPE_CHECKING, Any

from ggf_cli import __version__
from ggf_cli.cli.interrupt import graceful_interrupt
from ggf_cli.cli.progress import reporter
from ggf_cli.errors import GGFError, OutputError, SolveError

if TYPE_CHECKING:
    from pathlib import Path

    from ggf_cli.engine import Engine, Progress
    from ggf_cli.output.journal import History
    from ggf_cli.output.run import RunWriter, Spent

Record = Mapping[str, Any]


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
) -> tuple[dict[str, Any], Exception | None]:
    """Draw and write what is left; the run log, and the error to end with."""
    with graceful_interrupt() as interrupted:
        left = [index for index in wanted if index not in writer.finished]
        status, failure = _draw(engine, left, writer, len(wanted), interrupted, quiet=quiet)
        return _conclude(engine, wanted, writer, frame, status, failure, load_s)


def _draw(
    engine: Engine,
    left: Sequence[int],
    writer: RunWriter,
    total: int,
    interrupted: Callable[[], bool],
    *,
    quiet: bool,
) -> tuple[str, Exception | None]:
    """Run the engine into the writer; the run's status, and the error to end with."""
    kept, nfe_kept = len(writer.finished), sum(r["nfe"] for r in writer.finished.values())
    with reporter(total, engine.solver, quiet=quiet) if left else nullcontext(print) as report:

        def on_tick(progress: Progress) -> None:
            report(
                replace(
                    progress,
                    finished=kept + progress.finished,
                    nfe_finished=nfe_kept + progress.nfe_finished,
                )
            )
            if interrupted() and progress.finished < len(left):
                raise KeyboardInterrupt

        try:
            for finished in engine.run(left, on_tick):
                writer.add(finished)
            writer.end()
        except KeyboardInterrupt:
            try:
                writer.end()
            except OutputError as error:
                return "interrupted", error
            return "interrupted", None
        except Exception as error:  # noqa: BLE001 - whatever it is, the run gets its log first
            return "failed", _explained(error, engine)
    return "completed", None


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

    from ggf_cli.output.folder import RUN_LOG, write_atomically
    from ggf_cli.output.journal import remove_journals
    from ggf_cli.output.runlog import as_json, run_log

    files: list[dict[str, str]] = []
    # A full disk may have room for one of these and not for the other.
    try:
        files = writer.close({"ggf": frame["command"], "ggf-version": __version__})
    except OutputError as error:
        status, failure = "failed", failure or error
    ended = status == "completed"
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
        remove_journals(writer.folder)
    return log, failure


def earlier(folder: Path, frame: Mapping[str, Any]) -> History | dict[str, Any] | None:
    """What there is to resume: the journals of a run, the log of one that has ended, or nothing.

    Raises:
        OutputError: Another run, one that cannot be resumed, or a damaged one.
    """
    from ggf_cli.output.folder import RUN_LOG
    from ggf_cli.output.identity import differences
    from ggf_cli.output.journal import read_history
    from ggf_cli.output.record import find_record

    history = read_history(folder)
    log = None
    if history is None and (folder / RUN_LOG).exists():
        log = find_record(folder / RUN_LOG).log
    before = history.frame if history else log
    if before is None:
        return None
    if different := differences(before, frame):
        raise OutputError(
            f"{folder} holds a run with other settings: {'; '.join(different)}",
            hint="resume with the settings that it had, or give another folder with --out",
        )
    if log and len(log["samples"]) < log["num_samples"]:
        raise OutputError(
            f"the run in {folder} did not end, and its journal is not there",
            hint="draw it again with --force",
        )
    return history or log


def failure_of(log: Mapping[str, Any]) -> Exception | None:
    """The error that a run ended with, from its log."""
    lost = [sample for sample in log["samples"] if sample["status"] != "done"]
    return lost_samples(lost, log["num_samples"], log["solver"]["name"]) if lost else None


def lost_samples(lost: Sequence[Record], wanted: int, solver: str) -> SolveError:
    """The error for samples that did not reach the end."""
    reasons = {
        "non_finite": "met a score that is not finite",
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
    if isinstance(error, GGFError) or "memory" not in str(error):
        return error
    where = f"{engine.model.name}, batch size {engine.batch_size}"
    return SolveError(
        f"out of memory ({where}): {str(error).splitlines()[0]}", hint="a smaller --batch-size"
    )
