"""Distribute the runs of a comparison over the workers of a torchrun job.

Rank 0 sends an order for each run. Within the run, samples are shared as in `ggf sample`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import count
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from msgspec import to_builtins

from ggf_cli.engine import Engine
from ggf_cli.errors import JobError, SolveError, first_line
from ggf_cli.runs.distributed import Job
from ggf_cli.runs.plan import RunPlan, plan_run
from ggf_cli.runs.run_log import from_ranges
from ggf_cli.runs.workers import INTERRUPTED, work_on
from ggf_cli.score import ScoreModel
from ggf_cli.solvers import make_solver


class WorkerGroup:
    """The workers of a comparison, as rank 0 commands them. Within its context they wait for runs.

    Args:
        job: The job; this process is rank 0.
        folder: The folder of the comparison, which all processes share.
    """

    def __init__(self, job: Job, folder: Path) -> None:
        self._job = job
        self._folder = folder
        self._orders = count()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if isinstance(error, JobError):
            return
        last = self._job.scoped(_order(next(self._orders)))
        if error is None:
            last.end_workers(0)
        else:
            # torchrun ends the workers too.
            last.broadcast({"exit": INTERRUPTED})

    def start(self, plan: RunPlan, path: Path) -> Job:
        """Order all workers to draw their share of a run; the job of that run."""
        number = next(self._orders)
        settings = plan.settings
        self._job.scoped(_order(number)).broadcast(
            {
                "run": str(path.relative_to(self._folder)),
                "solver": to_builtins(settings.solver),
                "seed": settings.seed,
                "max_nfe": settings.max_nfe,
                "batch_size": settings.batch_size,
                "indices": settings.indices,
                "arrays": settings.arrays,
            }
        )
        return self._job.scoped(_run(number))


def work_on_comparison(job: Job, model: ScoreModel, folder: Path, stop: Callable[[], bool]) -> int:
    """Draw the share of this worker in the runs of a comparison; the exit code of the process.

    Args:
        job: This worker; not rank 0.
        model: The model, in its precision.
        folder: The folder of the comparison.
        stop: Called at every engine tick; True interrupts.

    Raises:
        OutputError: The settings or the folder differ from rank 0, or a file cannot be written.
    """
    for number in count():
        try:
            order = job.scoped(_order(number)).receive(stop)
        except KeyboardInterrupt:
            break
        if "exit" in order:
            return int(order["exit"])
        run = job.scoped(_run(number))
        try:
            if work_on(_plan(order, model), folder / order["run"], run, stop):
                break
        except (SolveError, RuntimeError, MemoryError) as error:
            run.fail(f"rank {job.rank}: {first_line(error)}")
            run.done()
    return INTERRUPTED


def _plan(order: Mapping[str, Any], model: ScoreModel) -> RunPlan:
    """The run that rank 0 orders, as this worker plans it."""
    solver = make_solver(order["solver"]["name"], order["solver"]["options"])
    engine = Engine(
        model,
        solver,
        seed=order["seed"],
        batch_size=order["batch_size"],
        max_nfe=order["max_nfe"],
    )
    indices = from_ranges(order["indices"])
    return plan_run(engine, indices, format="npz", draw_grid=False, arrays=order["arrays"])


def _order(number: int) -> str:
    return f"order/{number}"


def _run(number: int) -> str:
    return f"run/{number}"
