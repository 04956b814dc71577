"""Draw the run of a repeat of a cell, or take it from its folder if it has ended."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from msgspec import UNSET

from ggf_cli.comparison.observer import CellObserver
from ggf_cli.comparison.workers import WorkerGroup
from ggf_cli.engine import Engine
from ggf_cli.errors import JobError, OutputError, UsageError
from ggf_cli.runs.documents import RunLog
from ggf_cli.runs.execute import execute
from ggf_cli.runs.history import History
from ggf_cli.runs.load_samples import RunSamples, load_samples
from ggf_cli.runs.plan import RunPlan, plan_run
from ggf_cli.runs.resume import find_earlier_run
from ggf_cli.runs.sample_files import ExtraArray


@dataclass(frozen=True, kw_only=True)
class CellRun:
    """The run of a repeat, as its folder has it.

    Attributes:
        log: The content of `run.json` of a run that has ended; None if it is to be drawn.
        samples: The samples of a run that has ended; None if none reached the end.
        force: Replace the run in the folder.
        reason: Why the run in the folder is replaced.
    """

    log: RunLog | None = None
    samples: RunSamples | None = None
    force: bool = False
    reason: str = ""


def plan_cell_run(
    engine: Engine,
    indices: range,
    *,
    keep_x: bool,
    model_argument: str,
    config: str | None = None,
    label: str | None = None,
) -> RunPlan:
    """Plan the run of a repeat: .npz files with step times, no grid.

    Args:
        engine: A fresh engine.
        indices: The sample indices of the repeat.
        keep_x: Store the states too, for metrics that compare with an exact distribution.
        model_argument: The value of `ggf sample --model`.
        config: The value of `ggf sample --config`.
        label: The value of `ggf sample --label`.
    """
    arrays: Sequence[ExtraArray] = ("x", "times") if keep_x else ("times",)
    return plan_run(
        engine,
        indices,
        format="npz",
        draw_grid=False,
        arrays=arrays,
        model_argument=model_argument,
        config=config,
        label=label,
    )


def find_cell_run(plan: RunPlan, path: Path) -> CellRun:
    """Find the run of a repeat in its folder. It is replaced if its settings or files differ."""
    try:
        earlier = find_earlier_run(path, plan.settings)
        if earlier is None:
            return CellRun()
        before = earlier.settings if isinstance(earlier, History) else earlier
        if before.noise != plan.settings.noise:
            noise = None if before.noise is UNSET else before.noise
            return CellRun(force=True, reason=f"its noise is {noise}")
        if isinstance(earlier, RunLog):
            return CellRun(log=earlier, samples=load_samples(path, earlier.files))
        return CellRun()
    except (OutputError, UsageError) as error:
        return CellRun(force=True, reason=error.message)


def draw_cell_run(
    plan: RunPlan,
    path: Path,
    found: CellRun,
    *,
    observer: CellObserver,
    stop: Callable[[], bool],
    group: WorkerGroup | None,
) -> tuple[RunLog, RunSamples | None]:
    """Draw the run of a repeat, or what is left of it; its log and its samples.

    Raises:
        OutputError: The folder cannot be used, or a file cannot be written.
        JobError: The other processes of the job cannot be reached.
        KeyboardInterrupt: The run was interrupted.
        Exception: The error that ended the run before all samples were drawn.
    """
    device = torch.device(plan.engine.model.device)
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    result = execute(
        plan,
        path,
        resume=not found.force,
        force=found.force,
        observer=observer,
        stop=stop,
        job=group.start(plan, path) if group else None,
    )
    drawn = len(result.log.samples) == result.log.num_samples
    if result.failure and (not drawn or isinstance(result.failure, OutputError | JobError)):
        raise result.failure
    if result.interrupted:
        raise KeyboardInterrupt
    return result.log, load_samples(path, result.log.files)
