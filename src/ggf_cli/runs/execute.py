"""Draw a planned run into its folder: resume, sample, write, and conclude with `run.json`."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from time import perf_counter

import torch
from msgspec import to_builtins

from ggf_cli import __version__
from ggf_cli.engine import Engine, Progress
from ggf_cli.errors import JobError, OutputError, SolveError, first_line
from ggf_cli.runs.background import background
from ggf_cli.runs.distributed import Job
from ggf_cli.runs.documents import (
    FileLog,
    RunLog,
    RunSettings,
    RunStatus,
    Spent,
)
from ggf_cli.runs.failures import explained, failure_of_log, lost_samples
from ggf_cli.runs.folder import OutputFolder
from ggf_cli.runs.history import History, read_history
from ggf_cli.runs.journal import remove_journals
from ggf_cli.runs.layout import RUN_LOG, write_atomically
from ggf_cli.runs.observer import ProgressCallback, RunObserver
from ggf_cli.runs.plan import RunPlan
from ggf_cli.runs.resume import find_earlier_run, reproducibility_warnings
from ggf_cli.runs.run_log import as_ranges, encode_log, run_log
from ggf_cli.runs.writer import RunWriter
from ggf_cli.runtime import compilation
from ggf_cli.trace import Trace
from ggf_cli.trajectory import TrajectoryRecorder

# Seconds that rank 0 waits for the other workers after an interruption.
PATIENCE_S = 5.0
IDLE_S = 0.1


@dataclass(frozen=True, kw_only=True)
class RunResult:
    """A run that has ended or was interrupted.

    Attributes:
        folder: Its folder.
        log: The content of its `run.json`.
        failure: The error that it ended with; None if all samples are done or it was interrupted.
    """

    folder: Path
    log: RunLog
    failure: Exception | None = None

    @property
    def interrupted(self) -> bool:
        """Whether the run was interrupted. The same settings with `resume` continue it."""
        return self.log.status == "interrupted"


def execute(
    plan: RunPlan,
    path: Path,
    *,
    resume: bool = False,
    force: bool = False,
    observer: RunObserver | None = None,
    stop: Callable[[], bool] = lambda: False,
    job: Job | None = None,
    started: float | None = None,
) -> RunResult:
    """Draw a run, or what is left of it, and write its files.

    Args:
        plan: The run.
        path: Its folder, created if it does not exist.
        resume: Continue the run in the folder, if there is one.
        force: Replace the run in the folder.
        observer: Callbacks.
        stop: Called at every engine tick; True interrupts the run.
        job: The job of which this process is rank 0, if several workers draw the run.
        started: `perf_counter()` when loading began, for `timing.load_s`; None: now.

    Raises:
        OutputError: The folder cannot be used, or `run.json` could not be written.
        KeyboardInterrupt: Not raised: the result is `interrupted`.
    """
    started = perf_counter() if started is None else started
    observer = observer or RunObserver()
    folder = OutputFolder(path, force=force, resume=resume)
    try:
        earlier = find_earlier_run(path, plan.settings) if resume else None
        if isinstance(earlier, RunLog):
            # The earlier process may have been killed before it removed its journals.
            _remove_journals(path, observer)
            if job:
                job.end_workers(0)
            observer.note(f"the run in {path} has ended; there is nothing left to draw")
            return RunResult(folder=path, log=earlier, failure=failure_of_log(earlier))
        return _draw_and_conclude(plan, path, earlier, observer, stop, job, started)
    finally:
        folder.release()


def work(
    engine: Engine, left: list[int], writer: RunWriter, job: Job, stop: Callable[[], bool]
) -> bool:
    """Draw the share of a worker that is not rank 0; False if it was interrupted.

    Raises:
        GGFError: The worker could not continue.
    """
    failure = _draw(engine, left, writer, RunObserver(), stop, lambda progress: None, job)
    if failure is not None:
        raise failure
    return not stop()


def measure_spending(engine: Engine) -> Callable[[], Spent]:
    """A function that returns network calls, rows and seconds since now."""
    clock = perf_counter()

    def spent() -> Spent:
        progress = engine.progress
        return progress.network_calls, progress.rows_evaluated, round(perf_counter() - clock, 3)

    return spent


def _draw_and_conclude(
    plan: RunPlan,
    path: Path,
    earlier: History | None,
    observer: RunObserver,
    stop: Callable[[], bool],
    job: Job | None,
    started: float,
) -> RunResult:
    engine, wanted = plan.engine, plan.indices
    launch = earlier.launches if earlier else 0
    writer = RunWriter(
        path,
        wanted,
        plan.settings,
        spent=measure_spending(engine),
        history=earlier,
        launch=launch,
        alone=job is None,
    )
    if earlier:
        _note_resumed(earlier, writer, plan, observer)
    settings = earlier.settings if earlier else plan.settings
    left = [index for index in wanted if index not in writer.finished]
    if job:
        decision = {"launch": launch, "left": as_ranges(left)}
        job.broadcast({"settings": to_builtins(settings), **decision})
    if engine.model.compiled:
        with observer.busy("compiling the network"):
            compilation.warm_up(engine.model, engine.batch_size)
    load_s = perf_counter() - started
    kept, nfe_kept = len(writer.finished), sum(r.nfe for r in writer.finished.values())
    shown = observer if left else RunObserver()
    with shown.sampling(len(wanted), engine.expected_nfe) as report:

        def show(progress: Progress) -> None:
            total = job.total(progress) if job else progress
            finished, nfe = kept + total.finished, nfe_kept + total.nfe_finished
            report(replace(total, finished=finished, nfe_finished=nfe))

        failure = _draw(engine, left, writer, observer, stop, show, job)
        if job and failure is None:
            _wait_for_workers(job, engine, stop, show)
            if history := read_history(path):
                writer.collect(history)
            if reason := job.failure():
                failure = SolveError(reason)
        elif job and failure:
            # Workers need not draw further samples.
            with suppress(JobError):
                job.fail(first_line(failure))
    return _conclude(plan, writer, settings, failure, load_s, observer)


def _draw(
    engine: Engine,
    left: list[int],
    writer: RunWriter,
    observer: RunObserver,
    stop: Callable[[], bool],
    show: ProgressCallback,
    job: Job | None,
) -> Exception | None:
    """Run the engine into the writer until the end or an interruption; the error that ended it."""
    batch_size = engine.batch_size
    trace = Trace(writer.traced, engine.model.sde.T)
    recorder = None
    if writer.levels:
        recorder = TrajectoryRecorder(engine, writer.levels, frozenset(writer.pictured))

    def on_tick(progress: Progress) -> None:
        nonlocal batch_size
        if engine.batch_size < batch_size:
            observer.out_of_memory(batch_size, engine.batch_size)
            batch_size = engine.batch_size
        trace.update(progress)
        show(progress)
        queue.check()
        if stop() and progress.running:
            raise KeyboardInterrupt

    if job:
        samples = job.draw(engine, left, on_tick, recorder)
    else:
        samples = engine.run(left, on_tick, on_step=recorder)
    try:
        with background(writer.add, writer.room) as queue, suppress(KeyboardInterrupt):
            for finished in samples:
                trace.finish(finished)
                finished = recorder.finish(finished) if recorder else finished
                queue.put(finished, writer.spent(), trace.times.get(finished.index, ()))
        writer.end()
        if job:
            job.done()
    # Whatever the error is, the run gets its log first.
    except Exception as error:  # noqa: BLE001
        with suppress(OutputError):
            writer.end()
        return explained(error, engine)
    return None


def _wait_for_workers(
    job: Job, engine: Engine, stop: Callable[[], bool], show: ProgressCallback
) -> None:
    """Wait until all workers are done; `PATIENCE_S` at most after an interruption."""
    patience = PATIENCE_S

    def keep_waiting() -> bool:
        nonlocal patience
        job.publish(engine.progress)
        show(engine.progress)
        patience -= IDLE_S if stop() else 0
        return patience > 0

    job.wait_for_all(keep_waiting)


def _conclude(
    plan: RunPlan,
    writer: RunWriter,
    settings: RunSettings,
    failure: Exception | None,
    load_s: float,
    observer: RunObserver,
) -> RunResult:
    """Write the last files and `run.json`, and remove the journals of a run that has ended."""
    engine, wanted = plan.engine, len(plan.indices)
    complete = len(writer.finished) == wanted
    status: RunStatus = "failed" if failure else "completed" if complete else "interrupted"
    files: list[FileLog] = []
    # A full disk may have room for one of these files and not for the other.
    try:
        files = writer.close({"ggf": settings.command, "ggf-version": __version__})
    except OutputError as error:
        status, failure = "failed", failure or error
    ended = complete and failure is None
    if ended and (lost := [s for s in writer.finished.values() if s.status != "done"]):
        status, failure = "failed", lost_samples(lost, wanted, engine.solver.name)
    log = run_log(
        settings,
        status=status,
        sessions=writer.sessions(),
        running_nfe=sum(engine.progress.running_nfe),
        load_s=load_s,
        samples=writer.samples,
        files=files,
        device=torch.device(engine.model.device),
    )
    try:
        write_atomically(writer.folder / RUN_LOG, encode_log(log), durable=True)
    except OutputError as error:
        raise failure or error from error
    if ended:
        _remove_journals(writer.folder, observer)
    return RunResult(folder=writer.folder, log=log, failure=failure)


def _remove_journals(folder: Path, observer: RunObserver) -> None:
    """Remove the journals of a run that has ended. The run is complete even if that fails."""
    try:
        remove_journals(folder)
    except OSError as error:
        there = error.filename or folder
        observer.warn(f"cannot remove {there}: {error.strerror}; the run has ended all the same")


def _note_resumed(
    earlier: History, writer: RunWriter, plan: RunPlan, observer: RunObserver
) -> None:
    kept, wanted = len(writer.finished), len(plan.indices)
    observer.note(f"resuming: {kept} of {wanted} samples are finished and kept")
    if lost := len(earlier.records) - kept:
        observer.note(
            f"{lost} more were finished, but their files are missing or changed: drawn again"
        )
    if earlier.left_out:
        more = f", and {len(earlier.left_out) - 1} more" if earlier.left_out[1:] else ""
        observer.note(f"left out of the journal: {earlier.left_out[0]}{more}")
    for warning in reproducibility_warnings(earlier.settings, plan.settings):
        observer.note(warning)
