"""`ggf sample`: draw samples into a folder."""

from __future__ import annotations

import itertools
import shlex
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any

import typer
from msgspec import to_builtins

from ggf_cli.checkpoints.manifest import find_model
from ggf_cli.checkpoints.stated_sde import combine
from ggf_cli.cli import console, options, values
from ggf_cli.cli.sample_help import HelpAll
from ggf_cli.cli.solver_options import with_solver_options
from ggf_cli.errors import UsageError
from ggf_cli.runs.distributed import Job, find_job
from ggf_cli.runs.layout import ANIMATION
from ggf_cli.runs.pictures import PICTURES, picture_of
from ggf_cli.runtime.interrupt import graceful_interrupt
from ggf_cli.solvers.catalog import read_catalog
from ggf_cli.solvers.refusals import check_options
from ggf_cli.text import per_second

if TYPE_CHECKING:
    from ggf_cli.runs.execute import RunResult
    from ggf_cli.score import ScoreModel
    from ggf_cli.solvers.base import Solver

_FORMAT = options.Format.PNG


@with_solver_options
def sample(
    model: options.Model = "fashion-vp",
    config: options.Config = None,
    sde: options.StateSDE = None,
    size: options.ImageSize = None,
    n: options.NumSamples = None,
    indices: options.Indices = None,
    seed: options.Seed = 0,
    label: options.Label = None,
    guidance: options.Guidance = None,
    guidance_interval: options.GuidanceInterval = None,
    batch_size: options.BatchSize = "auto",
    device: options.Device = "auto",
    precision: options.Precision = "auto",
    compile: options.Compile = False,
    solver: options.Solver = "adaptive",
    t_eps: options.TEps = None,
    max_nfe: options.MaxNFE = None,
    solver_options: Any = None,
    pilot: options.Pilot = None,
    out: options.Out = None,
    grid: options.Grid = None,
    trajectory: options.Trajectory = None,
    format: options.FormatOption = _FORMAT,
    quiet: options.Quiet = False,
    json: options.Json = False,
    force: options.Force = False,
    resume: options.Resume = False,
    help_all: HelpAll = False,
) -> None:
    """Draw samples: images, a grid of them, and a JSON log of the run.

    Sample i of a seed is the same for any batch size, order or subset.

    If the run is interrupted or killed, the same command with --resume continues it.

    ggf sample --n 64 --eps-rel 0.05

    ggf sample --solver em --steps 200 --indices 0-15 --out runs/em
    """
    # Checks that need neither torch nor a network call come first.
    job = find_job()
    if job and job.restarts:
        # torchrun restarts the job with the command of its first start.
        resume, force = True, False
    _check_combination(n, indices, out, resume=resume, force=force, job=job)
    wanted = values.parse_count(16 if n is None else n)
    if indices is not None:
        wanted = values.parse_indices(indices)
    rows = values.parse_batch_size(batch_size)
    grid_size = values.parse_grid(grid)
    labels = values.parse_labels(label) if label is not None else []
    interval = values.parse_interval(guidance_interval)
    check_options(solver, solver_options)
    config = combine(config, sde=sde, size=size)
    find_model(model)
    started_at, clock = datetime.now().astimezone(), perf_counter()
    # An interrupted import leaves modules broken.
    with graceful_interrupt() as interrupted:
        from ggf_cli.batch_size import choose_batch_size
        from ggf_cli.cli.model import prepare
        from ggf_cli.cli.observer import ConsoleObserver
        from ggf_cli.engine import Engine
        from ggf_cli.per_sample import repeated_labels
        from ggf_cli.runs.execute import execute
        from ggf_cli.runs.plan import plan_run
        from ggf_cli.runs.workers import work_on
        from ggf_cli.runtime.compilation import compiled
        from ggf_cli.solvers import make_solver
    if interrupted():
        raise KeyboardInterrupt

    chosen = make_solver(solver, solver_options)
    network = prepare(
        model,
        device=job.device(device) if job else device,
        precision=precision,
        tolerance=chosen.tolerance,
        quiet=quiet or (job is not None and not job.is_rank_0),
        config=config,
        conditions=None if label is None else repeated_labels(labels, label),
        guidance=guidance,
        guidance_interval=interval,
    )
    if t_eps is not None:
        network = replace(network, sde=replace(network.sde, t_eps=t_eps))
    remark = chosen.remark(network.sde)
    if remark and not quiet and (job is None or job.is_rank_0):
        console.warn(remark)
    rows = rows or _decided_batch_size(out if resume else None, job)
    rows = rows or choose_batch_size(network, len(wanted))
    network = compiled(network) if compile else network
    if pilot is not None:
        chosen = _with_pilot(network, chosen, pilot, wanted, seed, rows, quiet=quiet)
    plan = plan_run(
        Engine(network, chosen, seed=seed, batch_size=rows, max_nfe=max_nfe),
        wanted,
        format=format.value,
        grid=grid_size,
        trajectory=trajectory,
        started_at=started_at,
        model_argument=model,
        config=config,
        selection=indices,
        label=label,
    )
    with graceful_interrupt(insist=job is None) as interrupted:
        if job and not job.is_rank_0:
            assert out is not None
            raise typer.Exit(work_on(plan, out, job, interrupted))
        result = execute(
            plan,
            out or _new_folder(f"{started_at:%Y%m%d-%H%M%S}-{Path(model).stem}-{solver}"),
            resume=resume,
            force=force,
            observer=ConsoleObserver(quiet=quiet),
            stop=interrupted,
            job=job,
            started=clock,
        )
    # The message below is enough for people.
    if json or quiet or not result.interrupted:
        _print(result, json=json, quiet=quiet)
    if result.failure:
        raise result.failure
    if result.interrupted:
        there = f"{len(result.log.samples)} of {len(wanted)} samples are in {result.folder}"
        resumed = "--resume" if out else f"--out {shlex.quote(str(result.folder))} --resume"
        console.note(f"interrupted: {there}; the same command with {resumed} continues")
        raise typer.Exit(130)


def _check_combination(
    n: int | None,
    indices: str | None,
    out: Path | None,
    *,
    resume: bool,
    force: bool,
    job: Job | None,
) -> None:
    """Refuse options that exclude or need each other."""
    if n is not None and indices is not None:
        raise UsageError("--n and --indices exclude each other")
    if job and out is None:
        raise UsageError("under torchrun the run needs an output folder", hint="give it with --out")
    if resume and force:
        raise UsageError("--resume and --force exclude each other")
    if resume and out is None:
        raise UsageError("--resume needs the folder of the run", hint="give it with --out")


def _decided_batch_size(resumed: Path | None, job: Job | None) -> int | None:
    """The batch size of --batch-size auto: that of rank 0, or of the run that is resumed."""
    from ggf_cli.runs.history import batch_size_of

    if job and not job.is_rank_0:
        batch_size: int | None = job.receive().get("settings", {}).get("batch_size")
        return batch_size
    return batch_size_of(resumed) if resumed else None


def _with_pilot(
    network: ScoreModel,
    solver: Solver,
    pilot: int,
    wanted: list[int],
    seed: int,
    batch_size: int,
    *,
    quiet: bool,
) -> Solver:
    """The solver with the mean step times of a pilot of `pilot` samples."""
    from ggf_cli.pilot import FIRST, freeze_schedule, pilot_indices

    if set(pilot_indices(pilot)).intersection(wanted):
        raise UsageError(
            f"--indices names samples of the pilot: it draws {pilot} from index 2^62 on",
            hint=f"leave out the indices from {FIRST} on",
        )
    with console.busy(f"drawing a pilot of {pilot} samples", quiet=quiet):
        result: Solver = freeze_schedule(network, solver, pilot, seed=seed, batch_size=batch_size)
    return result


def _new_folder(name: str) -> Path:
    """Create a new folder in runs/."""
    for number in itertools.count(1):
        path = Path("runs") / (name if number == 1 else f"{name}-{number}")
        try:
            path.mkdir(parents=True)
        except FileExistsError:
            continue
        # The error is reported where the folder is opened.
        except OSError:
            pass
        return path
    raise AssertionError


def _print(result: RunResult, *, json: bool, quiet: bool) -> None:
    """Print run.json, the folder alone, or a summary."""
    if json:
        console.result_json(to_builtins(result.log))
    elif quiet:
        console.result(str(result.folder))
    else:
        _summarise(result)


def _summarise(result: RunResult) -> None:
    """Print a summary; the last line is the path of the picture, or of the folder without one."""
    log, folder = result.log, result.folder
    nfe, steps = log.nfe, log.steps
    done = sum(sample.status == "done" for sample in log.samples)
    samples = "sample" if done == 1 else "samples"
    console.result(f"{done} {samples} of {log.model.name} by {log.solver.name}, seed {log.seed}")
    if nfe.mean is not None:
        line = f"NFE {nfe.mean:.1f} a sample ({nfe.min}–{nfe.max})"
        if read_catalog()[log.solver.name].adaptive:
            attempts = steps.accepted + steps.rejected
            line += f", {steps.rejected} of {attempts} attempts rejected"
        console.result(line)
    seconds, rate = log.timing.sample_s, per_second(log.timing.evaluations_per_s)
    console.result(f"{seconds:.1f} s, {rate} evaluations/s, {log.utilisation:.1%} of them needed")
    shown = log.grid[0] * log.grid[1] if log.grid else done
    if shown < done and picture_of(log.model.shape, images=True) in ("grid", "lines"):
        console.result(f"the picture shows {shown} of {done} samples (--grid)")
    for path in (ANIMATION, *PICTURES):
        if any(file.path == path for file in log.files):
            console.result(str(folder / path))
    if not any(file.path in PICTURES for file in log.files):
        console.result(str(folder))
