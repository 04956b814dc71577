"""`ggf sample`"""

from __future__ import annotations

import itertools
import shlex
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any

import typer

from ggf_cli import __version__
from ggf_cli.checkpoints.manifest import find_model
from ggf_cli.cli import console, options
from ggf_cli.cli.interrupt import graceful_interrupt
from ggf_cli.cli.progress import reporter
from ggf_cli.cli.solver_options import with_solver_options
from ggf_cli.errors import GGFError, OutputError, SolveError, UsageError
from ggf_cli.solvers.catalog import as_words, read_catalog

if TYPE_CHECKING:
    from ggf_cli.engine import Engine, Finished, Progress
    from ggf_cli.output.run import RunWriter

_FORMAT = options.Format.PNG


@with_solver_options
def sample(
    model: options.Model = "fashion-vp",
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
    out: options.Out = None,
    grid: options.Grid = None,
    format: options.FormatOption = _FORMAT,
    quiet: options.Quiet = False,
    json: options.Json = False,
    force: options.Force = False,
) -> None:
    """Draw samples: images, a grid of them, and a JSON log of the run.

    Sample i of a seed is the same sample for any batch size, order or subset.

    ggf sample --n 64 --eps-rel 0.05

    ggf sample --solver em --steps 200 --indices 0-15 --out runs/em
    """
    # Cheap checks first: none of these needs torch or a network call.
    if n is not None and indices is not None:
        raise UsageError("--n and --indices exclude each other")
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
        from ggf_cli.output.folder import OutputFolder
        from ggf_cli.output.run import RunWriter, check_request
        from ggf_cli.sampling import choose_batch_size
        from ggf_cli.solvers import make_solver
    if interrupted():
        raise typer.Exit(130)

    how = make_solver(solver, solver_options)
    what = prepare(model, device=device, precision=precision, compile=compile, quiet=quiet)
    if t_eps is not None:
        what = replace(what, sde=replace(what.sde, t_eps=t_eps))
    engine = Engine(
        what,
        how,
        seed=seed,
        batch_size=rows_per_call or choose_batch_size(what, len(wanted)),
        max_nfe=max_nfe,
    )
    check_request(what.shape, format.value, grid_size)
    folder = OutputFolder(
        out or _new_folder(f"{started_at:%Y%m%d-%H%M%S}-{Path(model).stem}-{solver}"), force=force
    )
    writer = RunWriter(folder, wanted, what.shape, format=format.value, grid_size=grid_size)
    command = _command(
        engine,
        {"model": model, **({"n": len(wanted)} if indices is None else {"indices": indices})},
        {"grid": grid, "format": format.value},
    )
    warm_up(what, engine.batch_size, quiet=quiet)
    load_s = perf_counter() - clock

    log, failure = _run(
        engine, wanted, writer, command=command, started_at=started_at, load_s=load_s, quiet=quiet
    )

    if json:
        console.result_json(log)
    elif quiet:
        console.result(str(folder.path))
    else:
        _summarise(log, folder.path)
    if failure:
        raise failure
    if log["status"] == "interrupted":
        done = f"{len(writer.samples)} of {len(wanted)} samples are in {folder.path}"
        console.note(f"interrupted: {done}")
        raise typer.Exit(130)


def _run(
    engine: Engine,
    wanted: list[int],
    writer: RunWriter,
    *,
    command: str,
    started_at: datetime,
    load_s: float,
    quiet: bool,
) -> tuple[dict[str, Any], Exception | None]:
    """Draw and write everything; the run log, and the error to end with."""
    from ggf_cli.output.runlog import run_log

    clock = perf_counter()
    try:
        status, failure = _draw(engine, wanted, writer, quiet=quiet)
        sample_s = perf_counter() - clock
        # A full disk may have room for one of these and not for the other.
        try:
            writer.close({"ggf": command, "ggf-version": __version__})
        except OutputError as error:
            status, failure = "failed", failure or error
        log = run_log(
            engine,
            status=status,
            command=command,
            started_at=started_at,
            num_samples=len(wanted),
            load_s=load_s,
            sample_s=sample_s,
            samples=writer.samples,
            files=writer.folder.files,
        )
        try:
            writer.folder.write_log(log)
        except OutputError as error:
            raise failure or error from error
    finally:
        writer.folder.release()
    return log, failure


def _draw(
    engine: Engine, wanted: list[int], writer: RunWriter, *, quiet: bool
) -> tuple[str, Exception | None]:
    """Run the engine into the writer; the run's status, and the error to end with."""
    with (
        graceful_interrupt() as interrupted,
        reporter(len(wanted), engine.solver, quiet=quiet) as report,
    ):

        def on_tick(progress: Progress) -> None:
            report(progress)
            if interrupted() and progress.finished < len(wanted):
                raise KeyboardInterrupt

        try:
            for finished in engine.run(wanted, on_tick):
                writer.add(finished)
        except KeyboardInterrupt:
            return "interrupted", None
        except Exception as error:  # noqa: BLE001 - whatever it is, the run gets its log first
            if isinstance(error, GGFError) or "memory" not in str(error):
                return "failed", error
            where = f"{engine.model.name}, batch size {engine.batch_size}"
            return "failed", SolveError(
                f"out of memory ({where}): {str(error).splitlines()[0]}",
                hint="a smaller --batch-size",
            )
    if writer.lost:
        return "failed", _lost(writer.lost, len(wanted), engine.solver.name)
    return "completed", None


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


def _lost(lost: list[Finished], wanted: int, solver: str) -> SolveError:
    """The error for samples that did not reach the end."""
    reasons = {
        "non_finite": "met a score that is not finite",
        "max_nfe": "ran out of evaluations",
    }
    kinds = sorted({finished.outcome for finished in lost})
    first = lost[0]
    return SolveError(
        f"{len(lost)} of {wanted} samples {' or '.join(reasons[kind] for kind in kinds)}, by {solver};"
        f" the first is index {first.index}, at t={first.t:.3f} after {first.nfe} evaluations",
        hint="raise --max-nfe or loosen the tolerance"
        if kinds == ["max_nfe"]
        else "take smaller steps: a smaller --eps-rel, or more --steps",
    )


def _command(engine: Engine, first: dict[str, Any], last: dict[str, Any]) -> str:
    """The command line that repeats a run, every default spelled out."""
    arguments = {
        **first,
        "seed": engine.seed,
        "batch-size": engine.batch_size,
        "device": engine.model.device,
        "precision": engine.model.precision,
        "compile": engine.model.compiled,
        "solver": engine.solver.name,
        **engine.solver.options(),
        "t-eps": engine.model.sde.t_eps,
        "max-nfe": engine.max_nfe,
        **last,
    }
    return shlex.join(["ggf", "sample", *as_words(arguments)])


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
