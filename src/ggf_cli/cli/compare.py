"""`ggf compare`"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import typer

from ggf_cli.checkpoints.manifest import ModelEntry, find_model
from ggf_cli.cli import compare_options as own
from ggf_cli.cli import console, options
from ggf_cli.cli.comparison_summary import tell_comparison
from ggf_cli.comparison.budget import parse_duration
from ggf_cli.comparison.lineup import DEFAULT, DEFAULTS, EPS_REL, MATCH, parse_contender
from ggf_cli.comparison.presets import find_preset
from ggf_cli.comparison.request import MAX_SAMPLES, Wish, decide
from ggf_cli.errors import UsageError
from ggf_cli.files import sha256_of
from ggf_cli.runs.distributed import find_job
from ggf_cli.runtime.interrupt import graceful_interrupt

if TYPE_CHECKING:
    from ggf_cli.comparison.runner import Comparison, Request

T = TypeVar("T")


def compare(
    solvers: own.Solvers = None,
    model: options.Model = "fashion-vp",
    config: options.Config = None,
    eps_rel: own.EpsRel = None,
    nfe: own.Nfe = MATCH,
    preset: own.PresetName = None,
    n: own.NumSamples = None,
    budget: own.Budget = None,
    repeats: own.Repeats = None,
    seed: options.Seed = 0,
    batch_size: options.BatchSize = "auto",
    device: options.Device = "auto",
    precision: options.Precision = "auto",
    compile: options.Compile = False,
    metric: own.Metric = None,
    reference: own.Reference = None,
    out: own.Out = None,
    quiet: options.Quiet = False,
    json: own.Json = False,
) -> None:
    """Compare solvers on the same samples, and recommend a setting.

    Sample i starts from the same prior noise in every cell. After Ctrl-C or a crash the same command goes on.

    ggf compare em adaptive

    ggf compare adaptive dpmpp-2m-sde:nfe=30 heun --model fashion-mixture --budget 2m

    ggf compare --preset paper-cifar10 --model cifar10-vp --reference cifar10-train/
    """
    # Cheap checks first: none of these needs torch.
    if n is not None and budget is not None:
        raise UsageError("--n and --budget exclude each other")
    if preset and n is None and budget is None and model in find_preset(preset).published:
        n, repeats = find_preset(preset).n, repeats or 1  # as published
    wish = Wish(
        contenders=tuple(map(parse_contender, solvers or (() if preset else DEFAULT))),
        model=model,
        config=config,
        eps_rel=_list("--eps-rel", eps_rel, float) or EPS_REL,
        nfe=nfe if nfe in (MATCH, DEFAULTS) else _list("--nfe", nfe, int),
        preset=preset,
        n=n,
        budget_s=_seconds(budget or own.BUDGET),
        repeats=repeats,
        seed=seed,
        metrics=_list("--metric", metric, str),
        reference=reference,
    )
    rows = options.parse_batch_size(batch_size)
    entry = find_model(model)
    folder = out or Path("runs") / _folder_name(wish)
    job = find_job()
    device = job.device(device) if job else device
    with graceful_interrupt() as interrupted:  # an import that is cut short stays broken
        from ggf_cli.cli.model import prepare, warm_up
        from ggf_cli.comparison.report import write_outputs
        from ggf_cli.comparison.runner import Comparison
        from ggf_cli.comparison.team import Team, follow
        from ggf_cli.metrics.evaluator import make_evaluators
        from ggf_cli.metrics.registry import default_metrics
        from ggf_cli.runtime.compilation import compiled
        from ggf_cli.sampling import choose_batch_size
    if interrupted():
        raise typer.Exit(130)

    what = prepare(
        model,
        device=device,
        precision=precision,
        tolerance=wish.tolerance(),
        quiet=quiet or (job is not None and not job.is_rank_0),
        config=config,
    )
    if job and not job.is_rank_0:
        with graceful_interrupt(insist=False) as interrupted:
            code = follow(job, compiled(what) if compile else what, folder, interrupted)
        raise typer.Exit(code)
    rows = rows or choose_batch_size(what, n or MAX_SAMPLES)
    what = compiled(what) if compile else what
    names = wish.metrics or default_metrics(what, reference)
    if not names:
        raise UsageError(
            f"there is nothing to compare samples of {model} with",
            hint="give a folder of real images with --reference (it takes ggf-cli[fid])",
        )
    evaluators = make_evaluators(names, what, reference=reference, device=what.device)
    if n is None and not quiet:
        console.note("measuring evaluations and speed for a few seconds, to plan the time")
    request = decide(
        wish,
        what,
        evaluators,
        folder,
        batch_size=rows,
        summary=entry.summary if isinstance(entry, ModelEntry) else None,
        processes=job.world if job else 1,
    )
    comparison = Comparison(request, Team(job, folder) if job else None)
    warm_up(what, request.batch_size, quiet=quiet)
    result = _run(comparison, request, quiet=quiet, insist=job is None)
    result = write_outputs(result, comparison.pictures(), folder)

    if json:
        console.result_json(result)
    elif quiet:
        console.result(str(folder))
    else:
        tell_comparison(result)
        console.result(str(folder / "report.html"))
    if result["status"] == "interrupted":
        console.note(f"interrupted: the same command goes on from {folder}")
        raise typer.Exit(130)


def _run(comparison: Comparison, request: Request, *, quiet: bool, insist: bool) -> dict[str, Any]:
    """Draw, until the end or Ctrl-C."""
    from ggf_cli.cli.compare_progress import watcher

    with graceful_interrupt(insist=insist) as interrupted, watcher(request, quiet=quiet) as watch:
        try:
            return comparison.run(watch, stop=interrupted)
        except KeyboardInterrupt:
            return comparison.result()


def _list(name: str, text: str | None, kind: Callable[[str], T]) -> tuple[T, ...]:
    """ "0.02,0.05" -> the values, each once."""
    try:
        return tuple(dict.fromkeys(kind(part.strip()) for part in text.split(","))) if text else ()
    except ValueError as error:
        raise UsageError(f"{name} is {text!r}, it must be numbers with commas between") from error


def _seconds(text: str) -> float:
    try:
        return parse_duration(text)
    except ValueError as error:
        raise UsageError(f"--budget is {text!r}, it must be a time like 90s, 10m or 2h") from error


def _folder_name(wish: Wish) -> str:
    """The same for the same wish, so that its command continues it."""
    digest = sha256_of(wish.words().encode())
    return f"compare-{Path(wish.model).stem}-{digest[:8]}"
