"""`ggf sample`"""

from __future__ import annotations

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
from ggf_cli.errors import GGFError, SolveError, UsageError

if TYPE_CHECKING:
    from ggf_cli.engine import Progress

_FORMAT = options.Format.PNG


def sample(
    model: options.Model = "fashion-vp",
    n: options.NumSamples = None,
    indices: options.Indices = None,
    seed: options.Seed = 0,
    batch_size: options.BatchSize = "auto",
    device: options.Device = "auto",
    solver: options.Solver = "adaptive",
    steps: options.Steps = None,
    denoise: options.Denoise = None,
    t_eps: options.TEps = None,
    max_nfe: options.MaxNFE = None,
    eps_rel: options.EpsRel = None,
    eps_abs: options.EpsAbs = None,
    h_init: options.HInit = None,
    exponent: options.Exponent = None,
    safety: options.Safety = None,
    norm: options.Norm = None,
    reference: options.Reference = None,
    extrapolation: options.Extrapolation = None,
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
    chosen = {
        "steps": steps,
        "denoise": denoise,
        "eps_rel": eps_rel,
        "eps_abs": eps_abs,
        "h_init": h_init,
        "exponent": exponent,
        "safety": safety,
        "norm": norm,
        "reference": reference,
        "extrapolation": extrapolation,
    }

    started_at = datetime.now().astimezone()
    clock = perf_counter()
    from ggf_cli.checkpoints.load import load_model
    from ggf_cli.engine import Engine
    from ggf_cli.output.folder import OutputFolder
    from ggf_cli.output.run import RunWriter
    from ggf_cli.output.runlog import run_log
    from ggf_cli.sampling import choose_batch_size
    from ggf_cli.solvers import make_solver

    how = make_solver(solver, {name: value for name, value in chosen.items() if value is not None})
    what = load_model(model, device=device)
    if t_eps is not None:
        what = replace(what, sde=replace(what.sde, t_eps=t_eps))
    how = how.resolved(what.sde)
    rows_per_call = rows_per_call or choose_batch_size(what.device, len(wanted))
    engine = Engine(what, how, seed=seed, batch_size=rows_per_call, max_nfe=max_nfe)
    folder = OutputFolder(
        out or Path("runs") / f"{started_at:%Y%m%d-%H%M%S}-{Path(model).stem}-{solver}", force=force
    )
    writer = RunWriter(folder, wanted, what.shape, format=format.value, grid_size=grid_size)
    command = _command(
        {
            "model": model,
            **({"n": len(wanted)} if indices is None else {"indices": indices}),
            "seed": seed,
            "batch-size": rows_per_call,
            "device": what.device,
            "solver": solver,
            **how.options(),
            "t-eps": what.sde.t_eps,
            "max-nfe": engine.max_nfe,
            "grid": grid,
            "format": format.value,
        }
    )
    load_s = perf_counter() - clock

    clock = perf_counter()
    status, failure = "completed", None
    with graceful_interrupt() as interrupted, reporter(len(wanted), how, quiet=quiet) as report:

        def on_tick(progress: Progress) -> None:
            report(progress)
            if interrupted():
                raise KeyboardInterrupt

        try:
            for finished in engine.run(wanted, on_tick):
                writer.add(finished)
        except KeyboardInterrupt:
            status = "interrupted"
        except GGFError as error:
            status, failure = "failed", error
    sample_s = perf_counter() - clock
    if failure is None and status == "completed":
        failure = _unfinished(writer.samples, len(wanted), solver)
        status = "failed" if failure else status

    try:
        drawn = writer.close({"ggf": command, "ggf-version": __version__})
        log = run_log(
            status=status,
            command=command,
            started_at=started_at,
            finished_at=datetime.now().astimezone(),
            model=what,
            solver=how,
            seed=seed,
            num_samples=len(wanted),
            batch_size=rows_per_call,
            progress=engine.progress,
            load_s=load_s,
            sample_s=sample_s,
            samples=writer.samples,
            files=folder.files,
        )
        folder.write_log(log)
    except GGFError as error:
        raise failure or error from error

    if json:
        console.result_json(log)
    elif quiet:
        console.result(str(folder.path))
    else:
        _summarise(log, drawn or folder.path)
    if failure:
        raise failure
    if status == "interrupted":
        console.note(
            f"interrupted: {len(writer.samples)} of {len(wanted)} samples are in {folder.path}"
        )
        raise typer.Exit(130)


def _unfinished(samples: list[dict[str, Any]], wanted: int, solver: str) -> SolveError | None:
    """The error for samples that did not reach the end, if there are any."""
    lost = [sample for sample in samples if sample["status"] != "done"]
    if not lost:
        return None
    kinds = {sample["status"] for sample in lost}
    what = {
        frozenset({"non_finite"}): "met a score that is not finite",
        frozenset({"max_nfe"}): "ran out of evaluations",
    }.get(frozenset(kinds), "met a score that is not finite or ran out of evaluations")
    first = lost[0]
    return SolveError(
        f"{len(lost)} of {wanted} samples {what} ({solver}; the first is index {first['index']},"
        f" after {first['nfe']} evaluations); the others are saved",
        hint="raise --max-nfe or loosen the tolerance"
        if kinds == {"max_nfe"}
        else "take smaller steps: a smaller --eps-rel, or more --steps",
    )


def _command(arguments: dict[str, Any]) -> str:
    """The command line that repeats a run, every default spelled out."""
    words = ["ggf", "sample"]
    for name, value in arguments.items():
        flag = name.replace("_", "-")
        if isinstance(value, bool):
            words.append(f"--{flag}" if value else f"--no-{flag}")
        elif value is not None:
            words += [f"--{flag}", str(value)]
    return shlex.join(words)


def _summarise(log: dict[str, Any], where: Path) -> None:
    """A few lines for people."""
    nfe, timing, steps = log["nfe"], log["timing"], log["steps"]
    done = sum(sample["status"] == "done" for sample in log["samples"])
    console.result(
        f"{done} samples of {log['model']['name']} by {log['solver']['name']}, seed {log['seed']}"
    )
    if nfe["mean"] is not None:
        attempts = steps["accepted"] + steps["rejected"]
        console.result(
            f"NFE {nfe['mean']:.1f} a sample ({nfe['min']}–{nfe['max']}),"
            f" {steps['rejected']} of {attempts} attempts rejected"
        )
    console.result(
        f"{timing['sample_s']:.1f} s, {timing['evaluations_per_s']:.0f} evaluations/s,"
        f" {log['utilisation']:.1%} of them needed"
    )
    console.result(str(where))
