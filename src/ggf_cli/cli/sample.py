"""`ggf sample`"""

from __future__ import annotations

import itertools
import os
import shlex
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any

import typer

from ggf_cli.checkpoints.manifest import find_model
from ggf_cli.cli import console, draw, options
from ggf_cli.cli.interrupt import graceful_interrupt
from ggf_cli.cli.solver_options import with_solver_options
from ggf_cli.errors import OutputError, UsageError
from ggf_cli.runs.distributed import find_job
from ggf_cli.runs.resume import differences, remarks
from ggf_cli.solvers.catalog import as_words, read_catalog

if TYPE_CHECKING:
    from ggf_cli.engine import Engine
    from ggf_cli.runs.distributed import Job
    from ggf_cli.runs.history import History
    from ggf_cli.runs.writer import RunWriter

_FORMAT = options.Format.PNG


@with_solver_options
def sample(
    model: options.Model = "fashion-vp",
    config: options.Config = None,
    n: options.NumSamples = None,
    indices: options.Indices = None,
    seed: options.Seed = 0,
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
    format: options.FormatOption = _FORMAT,
    quiet: options.Quiet = False,
    json: options.Json = False,
    force: options.Force = False,
    resume: options.Resume = False,
) -> None:
    """Draw samples: images, a grid of them, and a JSON log of the run.

    Sample i of a seed is the same sample for any batch size, order or subset. A run that was interrupted or killed goes on with --resume.

    ggf sample --n 64 --eps-rel 0.05

    ggf sample --solver em --steps 200 --indices 0-15 --out runs/em
    """
    # Cheap checks first: none of these needs torch or a network call.
    if n is not None and indices is not None:
        raise UsageError("--n and --indices exclude each other")
    job = find_job()
    if job and out is None:
        raise UsageError(
            "under torchrun the folder of the run must have a name", hint="give it with --out"
        )
    if job and job.restarts:  # by torchrun, with the words of the first start
        resume, force = True, False
    if resume and force:
        raise UsageError("--resume and --force exclude each other")
    if resume and out is None:
        raise UsageError("--resume needs the folder of the run", hint="give it with --out")
    wanted = options.parse_count(16 if n is None else n)
    if indices is not None:
        wanted = options.parse_indices(indices)
    rows_per_call = options.parse_batch_size(batch_size)
    grid_size = options.parse_grid(grid)
    find_model(model)
    started_at, clock = datetime.now().astimezone(), perf_counter()
    with graceful_interrupt() as interrupted:  # an import that is cut short stays broken
        from ggf_cli.cli.model import prepare, warm_up
        from ggf_cli.engine import Engine
        from ggf_cli.pilot import FIRST, frozen, pilot_indices
        from ggf_cli.runs.folder import OutputFolder
        from ggf_cli.runs.run_log import as_ranges, run_frame
        from ggf_cli.runs.writer import RunWriter, check_request, near_square
        from ggf_cli.runtime.compilation import compiled
        from ggf_cli.sampling import choose_batch_size
        from ggf_cli.solvers import make_solver
    if interrupted():
        raise typer.Exit(130)

    how = make_solver(solver, solver_options)
    device = job.device(device) if job else device
    what = prepare(
        model,
        device=device,
        precision=precision,
        tolerance=how.tolerance,
        quiet=quiet or (job is not None and not job.leads),
        config=config,
    )
    if t_eps is not None:
        what = replace(what, sde=replace(what.sde, t_eps=t_eps))
    rows = rows_per_call or _decided(out if resume else None, job)
    rows = rows or choose_batch_size(what, len(wanted))
    what = compiled(what) if compile else what
    if pilot is not None:
        if set(pilot_indices(pilot)).intersection(wanted):
            raise UsageError(
                f"--indices names samples of the pilot: it draws {pilot} from index 2^62 on",
                hint=f"leave out {FIRST} and those after it",
            )
        with console.busy(f"drawing a pilot of {pilot} samples", quiet=quiet):
            how = frozen(what, how, pilot, seed=seed, batch_size=rows)
    engine = Engine(
        what,
        how,
        seed=seed,
        batch_size=rows,
        max_nfe=max_nfe,
    )
    check_request(what.shape, format.value, grid_size)
    command = _command(
        engine,
        {
            "model": model,
            "config": config,
            **({"n": len(wanted)} if indices is None else {"indices": indices}),
        },
        {"grid": grid, "format": format.value},
    )
    frame = run_frame(
        engine,
        wanted,
        command=command,
        started_at=started_at,
        format=format.value,
        grid=grid_size or near_square(min(len(wanted), 64)),
    )
    if job and not job.leads:
        _follow(job, engine, wanted, frame, out)
        return
    path = out or _new_folder(f"{started_at:%Y%m%d-%H%M%S}-{Path(model).stem}-{solver}")
    folder = OutputFolder(path, force=force, resume=resume)
    try:
        before = draw.earlier(path, frame) if resume else None
        if isinstance(before, dict):
            log, failure = before, draw.failure_of(before)
            draw.tidy(path)  # had it been killed at that
            if job:
                job.dismiss(0)
            if not quiet:
                console.note(f"the run in {path} has ended; there is nothing left to draw")
        else:
            launch = before.launches if before else 0
            spent = draw.spending(engine)
            writer = RunWriter(
                path, wanted, frame, spent=spent, history=before, launch=launch, alone=job is None
            )
            if before and not quiet:
                _tell_resumed(before, writer, frame, len(wanted))
            frame = before.frame if before else frame
            if job:
                left = as_ranges([index for index in wanted if index not in writer.finished])
                job.tell({"frame": frame, "launch": launch, "left": left})
            warm_up(what, engine.batch_size, quiet=quiet)
            load_s = perf_counter() - clock
            log, failure = draw.run(
                engine, wanted, writer, frame, load_s=load_s, quiet=quiet, job=job
            )
    finally:
        folder.release()

    if json:
        console.result_json(log)
    elif quiet:
        console.result(str(path))
    else:
        _summarise(log, path)
    if failure:
        raise failure
    if log["status"] == "interrupted":
        there = f"{len(log['samples'])} of {len(wanted)} samples are in {path}"
        how_on = "--resume" if out else f"--out {shlex.quote(str(path))} --resume"
        console.note(f"interrupted: {there}; the same command with {how_on} goes on")
        raise typer.Exit(130)


def _decided(resumed: Path | None, job: Job | None) -> int | None:
    """The batch size that `auto` has stood for: in the run that is resumed, or for rank 0 of the job."""
    from ggf_cli.runs.history import batch_size_of

    if job and not job.leads:
        rows: int | None = job.hear().get("frame", {}).get("batch_size")
        return rows
    return batch_size_of(resumed) if resumed else None


def _follow(
    job: Job, engine: Engine, wanted: list[int], frame: dict[str, Any], out: Path | None
) -> None:
    """Draw as one of the processes that do not lead, as the leading one has decided."""
    from ggf_cli.cli.model import warm_up
    from ggf_cli.runs.history import journal_path
    from ggf_cli.runs.writer import RunWriter

    assert out is not None
    decision = job.hear()
    if "exit" in decision:
        raise typer.Exit(decision["exit"])
    leading, left = decision["frame"], decision["left"]
    if different := differences(leading, frame):
        raise OutputError(
            f"its settings are not those of rank 0: {'; '.join(different)}",
            hint="start all processes of a job with the same words, on machines of one kind",
        )
    if not os.path.lexists(journal_path(out, 0)):
        raise OutputError(
            f"the folder {out} is not the one that rank 0 writes to",
            hint="give a folder that all machines of the job share",
        )
    warm_up(engine.model, engine.batch_size, quiet=True)
    writer = RunWriter(
        out,
        wanted,
        {**leading, "device": frame["device"]},
        spent=draw.spending(engine),
        rank=job.rank,
        launch=decision["launch"],
        alone=False,
    )
    if not draw.follow(engine, options.parse_indices(left) if left else [], writer, job):
        raise typer.Exit(130)


def _tell_resumed(before: History, writer: RunWriter, frame: dict[str, Any], wanted: int) -> None:
    kept = len(writer.finished)
    console.note(f"resuming: {kept} of {wanted} samples are finished and kept")
    if lost := len(before.records) - kept:
        console.note(
            f"{lost} more were finished, but their files are not as they were: drawn again"
        )
    if before.left_out:
        more = f", and {len(before.left_out) - 1} more" if before.left_out[1:] else ""
        console.note(f"left out of the journal: {before.left_out[0]}{more}")
    for remark in remarks(before.frame, frame):
        console.note(remark)


def _new_folder(name: str) -> Path:
    """A folder in runs/ that no other run has."""
    for number in itertools.count(1):
        path = Path("runs") / (name if number == 1 else f"{name}-{number}")
        try:
            path.mkdir(parents=True)
        except FileExistsError:
            continue
        except OSError:
            pass  # told where the folder is opened
        return path
    raise AssertionError


def _command(engine: Engine, first: dict[str, Any], last: dict[str, Any]) -> str:
    """The command line that repeats a run, every default spelled out."""
    arguments = {
        **first,
        "seed": engine.seed,
        "batch-size": engine.batch_size,
        "device": _device(engine),
        "precision": engine.model.precision,
        "compile": engine.model.compiled,
        "solver": engine.solver.name,
        **engine.solver.options(),
        "t-eps": engine.model.sde.t_eps,
        "max-nfe": engine.max_nfe,
        **last,
    }
    return shlex.join(["ggf", "sample", *as_words(arguments)])


def _device(engine: Engine) -> str:
    """What --device takes; which of several GPUs a process of a job has does not matter."""
    return str(engine.model.device).split(":")[0] if find_job() else str(engine.model.device)


def _summarise(log: dict[str, Any], folder: Path) -> None:
    """A few lines for people; the last one is what to look at."""
    nfe, timing, steps = log["nfe"], log["timing"], log["steps"]
    done = sum(sample["status"] == "done" for sample in log["samples"])
    console.result(
        f"{done} sample{'s' * (done != 1)} of {log['model']['name']} by {log['solver']['name']}, seed {log['seed']}"
    )
    if nfe["mean"] is not None:
        line = f"NFE {nfe['mean']:.1f} a sample ({nfe['min']}–{nfe['max']})"
        if read_catalog()[log["solver"]["name"]]["adaptive"]:
            attempts = steps["accepted"] + steps["rejected"]
            line += f", {steps['rejected']} of {attempts} attempts rejected"
        console.result(line)
    console.result(
        f"{timing['sample_s']:.1f} s, {console.per_second(timing['evaluations_per_s'])} evaluations/s,"
        f" {log['utilisation']:.1%} of them needed"
    )
    drawn = any(file["path"] == "grid.png" for file in log["files"])
    console.result(str(folder / "grid.png" if drawn else folder))
