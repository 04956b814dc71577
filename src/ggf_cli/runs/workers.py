"""Draw the share of a worker that is not rank 0 in a distributed run."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from msgspec import structs

from ggf_cli.documents import convert
from ggf_cli.errors import OutputError
from ggf_cli.runs.distributed import Job
from ggf_cli.runs.documents import RunSettings
from ggf_cli.runs.execute import measure_spending, work
from ggf_cli.runs.history import journal_path
from ggf_cli.runs.plan import RunPlan
from ggf_cli.runs.resume import setting_changes
from ggf_cli.runs.run_log import from_ranges
from ggf_cli.runs.writer import RunWriter
from ggf_cli.runtime import compilation

INTERRUPTED = 130


def work_on(plan: RunPlan, path: Path, job: Job, stop: Callable[[], bool]) -> int:
    """Receive the run of rank 0 and draw this worker's share of it; returns the exit code.

    Args:
        plan: The run as this worker has planned it, to check that it agrees with rank 0.
        path: The folder of the run, which all workers share.
        job: This worker; not rank 0.
        stop: Called at every engine tick; True interrupts.

    Raises:
        OutputError: The settings or the folder are not those of rank 0.
        GGFError: The worker could not continue.
    """
    try:
        decision = job.receive(stop)
    except KeyboardInterrupt:
        return INTERRUPTED
    if "exit" in decision:
        return int(decision["exit"])
    settings, engine = convert(decision["settings"], RunSettings), plan.engine
    if different := setting_changes(settings, plan.settings):
        raise OutputError(
            f"the settings differ from those of rank 0: {'; '.join(different)}",
            hint="start all workers of a job with the same command, on machines of one kind",
        )
    if not os.path.lexists(journal_path(path, 0)):
        raise OutputError(
            f"the folder {path} is not the folder of rank 0",
            hint="give a folder that all machines of the job share",
        )
    if engine.model.compiled:
        compilation.warm_up(engine.model, engine.batch_size)
    writer = RunWriter(
        path,
        plan.indices,
        structs.replace(settings, device=plan.settings.device),
        spent=measure_spending(engine),
        rank=job.rank,
        launch=decision["launch"],
        alone=False,
    )
    left = from_ranges(decision["left"])
    return 0 if work(engine, left, writer, job, stop) else INTERRUPTED
