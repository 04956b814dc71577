"""`run`: draw a resumable run from Python, as `ggf sample` does."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any, SupportsIndex

from ggf_cli.batch_size import choose_batch_size
from ggf_cli.engine import Engine
from ggf_cli.errors import UsageError
from ggf_cli.per_sample import PerSampleLike
from ggf_cli.runs.execute import RunResult, execute
from ggf_cli.runs.history import batch_size_of
from ggf_cli.runs.observer import ProgressObserver, RunObserver
from ggf_cli.runs.plan import plan_run
from ggf_cli.runs.sample_files import Format
from ggf_cli.runtime.interrupt import interruptible
from ggf_cli.sampling import as_solver, unique_indices
from ggf_cli.scalars import as_indices, shown
from ggf_cli.score import ScoreModel
from ggf_cli.solvers.base import Solver


def run(
    model: ScoreModel,
    indices: SupportsIndex | Iterable[SupportsIndex],
    *,
    out: str | Path,
    solver: str | Solver = "adaptive",
    seed: int = 0,
    batch_size: int | None = None,
    max_nfe: int | None = None,
    format: Format = "png",
    grid: tuple[int, int] | None = None,
    resume: bool = False,
    force: bool = False,
    observer: RunObserver | None = None,
    conditions: PerSampleLike | None = None,
    guidance: float | None = None,
    guidance_interval: tuple[float, float] | None = None,
    prior: PerSampleLike | None = None,
    trajectory: int | None = None,
    progress: bool = False,
    **options: Any,
) -> RunResult:
    """Draw samples into a folder: sample files, a picture, and `run.json`, as `ggf sample` does.

    A run that was interrupted or killed continues with `resume=True` and the same arguments.

    Args:
        model: A `ScoreModel`, from `load_model` or of your own.
        indices: How many samples (0 to n - 1), or the sample indices, as for `sample`.
        out: The folder of the run, created if it does not exist.
        solver: A solver's name, with its options as keyword arguments, or a solver.
        seed: Random seed, in 0..2^63 - 1.
        batch_size: Samples evaluated together; None: that of the run that is resumed, else chosen.
        max_nfe: Give a sample up after this many evaluations; None: see `Engine`.
        format: "png": a file a sample; "npz": arrays; "none": only picture and `run.json`.
        grid: Rows and columns of the grid of images or signals; None: near-square, at most 64
            samples.
        resume: Continue the run in the folder, if there is one.
        force: Replace the run in the folder.
        observer: Callbacks for progress and remarks.
        conditions: As in `sample`. `run.json` has a hash of a tensor, and the name of a function:
            resuming compares them.
        guidance: As in `sample`.
        guidance_interval: As in `sample`.
        prior: As in `sample`; recorded and compared as `conditions` are.
        trajectory: Draw the samples on the grid at this number of noise levels, 2 at least, as
            strips and as an animation. Only images can be drawn.
        progress: As in `sample`, if there is no `observer`.
        **options: Options of the named solver, such as eps_rel=0.02.

    Returns:
        The folder and the content of its `run.json`.

    Raises:
        UsageError: A value is out of range or an option unknown.
        OutputError: The folder cannot be used, or holds another run.
        SolveError: Samples did not reach the end. The others are in the folder.
        KeyboardInterrupt: The run was interrupted. What has finished is in the folder.
    """
    model = model.with_conditions(
        conditions, guidance=guidance, guidance_interval=guidance_interval
    )
    wanted = unique_indices(as_indices(indices))
    if not wanted:
        raise UsageError(f"no samples asked for ({shown(indices)})", hint="ask for at least 1")
    if resume and force:
        raise UsageError("resume and force exclude each other")
    solver = as_solver(solver, options)
    folder = Path(out)
    if batch_size is None:
        batch_size = batch_size_of(folder) if resume else None
    if batch_size is None:
        batch_size = choose_batch_size(model, len(wanted))
    engine = Engine(model, solver, seed=seed, batch_size=batch_size, max_nfe=max_nfe, prior=prior)
    plan = plan_run(engine, wanted, format=format, grid=grid, trajectory=trajectory)
    if observer is None and progress:
        observer = ProgressObserver()
    with interruptible() as stop:
        result = execute(plan, folder, resume=resume, force=force, observer=observer, stop=stop)
    if result.failure:
        raise result.failure
    if result.interrupted:
        raise KeyboardInterrupt
    return result
