"""`ggf compare`: compare solvers and recommend a setting."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, TypeVar

import typer

from ggf_cli.checkpoints.documents import ModelEntry
from ggf_cli.checkpoints.manifest import RegisteredFacts, find_model
from ggf_cli.checkpoints.stated_sde import combine
from ggf_cli.cli import compare_options as own
from ggf_cli.cli import console, options, values
from ggf_cli.cli.compare_plan import asking, print_plan
from ggf_cli.cli.comparison_summary import print_comparison
from ggf_cli.comparison.durations import parse_duration
from ggf_cli.comparison.lineup import DEFAULT, DEFAULTS, EPS_REL, MATCH, parse_contender
from ggf_cli.comparison.presets import find_preset
from ggf_cli.comparison.report import COMPARISON
from ggf_cli.comparison.request import (
    MAX_SAMPLES,
    CompareRequest,
    check_possible,
    plan_comparison,
)
from ggf_cli.errors import SolveError, UsageError
from ggf_cli.files import sha256_of
from ggf_cli.metrics.registry import METRICS
from ggf_cli.registry import lookup
from ggf_cli.runs.distributed import find_job
from ggf_cli.runtime.interrupt import graceful_interrupt

if TYPE_CHECKING:
    from ggf_cli.comparison.compare import ComparisonResult

T = TypeVar("T")


def compare(
    solvers: own.Solvers = None,
    model: options.Model = "fashion-vp",
    config: options.Config = None,
    sde: options.StateSDE = None,
    size: options.ImageSize = None,
    eps_rel: own.EpsRel = None,
    nfe: own.Nfe = MATCH,
    baseline: own.Baseline = True,
    preset: own.PresetName = None,
    n: own.NumSamples = None,
    budget: own.Budget = None,
    yes: own.Yes = False,
    repeats: own.Repeats = None,
    seed: options.Seed = 0,
    label: options.Label = None,
    guidance: options.Guidance = None,
    guidance_interval: options.GuidanceInterval = None,
    batch_size: options.BatchSize = "auto",
    device: options.Device = "auto",
    precision: options.Precision = "auto",
    compile: options.Compile = False,
    metric: own.Metric = None,
    reference: own.Reference = None,
    margin: own.Margin = own.MARGIN,
    out: own.Out = None,
    quiet: options.Quiet = False,
    json: own.Json = False,
) -> None:
    """Compare solvers on the same samples, and recommend a setting.

    Without arguments it compares a default set of solvers.

    If interrupted, run the same command again to continue.

    Sample i starts from the same prior noise for every solver and setting.

    ggf compare em adaptive

    ggf compare adaptive dpmpp-2m-sde:nfe=30 heun --model fashion-mixture --budget 2m

    ggf compare --preset paper-cifar10 --model cifar10-vp --reference cifar10-train/
    """
    started = monotonic()
    # Checks that do not need torch come first.
    if n is not None and budget is not None:
        raise UsageError("--n and --budget exclude each other")
    if preset and n is None and budget is None and model in find_preset(preset).published:
        # As published.
        n, repeats = find_preset(preset).n, repeats or 1
    config = combine(config, sde=sde, size=size)
    request = CompareRequest(
        contenders=tuple(map(parse_contender, solvers or (() if preset else DEFAULT))),
        model=model,
        config=config,
        label=label,
        guidance=guidance,
        guidance_interval=guidance_interval,
        eps_rel=_list(eps_rel, values.real("--eps-rel", share=True)) or EPS_REL,
        nfe=nfe if nfe in (MATCH, DEFAULTS) else _list(nfe, values.whole("--nfe")),
        preset=preset,
        n=n,
        budget_s=parse_duration(budget or own.BUDGET),
        repeats=repeats,
        seed=seed,
        metrics=_list(metric, str),
        reference=reference,
        margin=values.real("--margin", share=True)(margin),
        baseline=baseline,
    )
    for name in request.metrics:
        lookup(METRICS, name, "metric", f"metrics: {', '.join(METRICS)}")
    labels = values.parse_labels(label) if label is not None else []
    interval = values.parse_interval(guidance_interval)
    rows = values.parse_batch_size(batch_size)
    entry = find_model(model)
    if isinstance(entry, ModelEntry):
        check_possible(request, RegisteredFacts(entry))
    folder = out or Path("runs") / _folder_name(request)
    job = find_job()
    device = job.device(device) if job else device
    # An interrupted import leaves modules broken.
    with graceful_interrupt() as interrupted:
        from ggf_cli.batch_size import choose_batch_size
        from ggf_cli.cli.compare_progress import progress_observer
        from ggf_cli.cli.model import prepare, warm_up
        from ggf_cli.comparison.compare import draw_and_report, evaluators_of
        from ggf_cli.comparison.runner import Comparison
        from ggf_cli.comparison.workers import WorkerGroup, work_on_comparison
        from ggf_cli.per_sample import repeated_labels
        from ggf_cli.runtime.compilation import compiled
        from ggf_cli.solvers import make_solver
    if interrupted():
        raise KeyboardInterrupt

    network = prepare(
        model,
        device=device,
        precision=precision,
        tolerance=request.tolerance(),
        quiet=quiet or (job is not None and not job.is_rank_0),
        config=config,
        conditions=None if label is None else repeated_labels(labels, label),
        guidance=guidance,
        guidance_interval=interval,
    )
    if job and not job.is_rank_0:
        network = compiled(network) if compile else network
        with graceful_interrupt(insist=False) as interrupted:
            code = work_on_comparison(job, network, folder, interrupted)
        raise typer.Exit(code)
    rows = rows or choose_batch_size(network, n or MAX_SAMPLES)
    network = compiled(network) if compile else network
    evaluators = evaluators_of(request, network)
    if not quiet and not (folder / COMPARISON).exists():
        console.note("measuring evaluations and speed for a few seconds, to plan the time")
    # So that the time to compile is not measured as that of evaluations.
    warm_up(network, min(rows, n or rows), quiet=quiet)
    plan = plan_comparison(
        request,
        network,
        evaluators,
        folder,
        batch_size=rows,
        summary=entry.summary if isinstance(entry, ModelEntry) else None,
        processes=job.world if job else 1,
        started=started,
        measured=not quiet,
        may_exceed=asking(yes),
    )
    solvers_of_cells = (make_solver(cell.solver, cell.given) for cell in plan.cells)
    for remark in dict.fromkeys(solver.remark(network.sde) for solver in solvers_of_cells):
        if remark and not quiet:
            console.warn(remark)
    if not quiet:
        print_plan(plan)
    comparison = Comparison(plan, WorkerGroup(job, folder) if job else None, margin=request.margin)
    warm_up(network, plan.batch_size, quiet=quiet)
    with (
        graceful_interrupt(insist=job is None) as interrupted,
        progress_observer(plan, quiet=quiet) as observer,
    ):
        result = draw_and_report(comparison, observer=observer, stop=interrupted)
    ended = sum(len(cell.get("runs", ())) for cell in result.document["cells"])
    # A table without values says nothing.
    if json or quiet or ended or not result.interrupted:
        _print(result, json=json, quiet=quiet)
    if result.interrupted:
        there = f"{ended} runs and the finished samples of the next one are kept in {folder}"
        console.note(f"interrupted: {there}; the same command continues")
        raise typer.Exit(130)
    errors = [cell["error"] for cell in result.document["cells"]]
    if all(errors):
        raise SolveError(f"every setting failed: {errors[0]}", hint="the table has all reasons")


def _print(result: ComparisonResult, *, json: bool, quiet: bool) -> None:
    """Print compare.json, the folder alone, or the table and the recommendation."""
    if json:
        console.result_json(result.document)
    elif quiet:
        console.result(str(result.folder))
    else:
        print_comparison(result.document)
        console.result(str(result.folder / "report.html"))


def _list(text: str | None, kind: Callable[[str], T]) -> tuple[T, ...]:
    """Parse a list: "0.02,0.05" -> the values, each once."""
    try:
        return tuple(dict.fromkeys(kind(part.strip()) for part in text.split(","))) if text else ()
    except UsageError as error:
        hint = f"{error.hint}; several are numbers with commas between"
        raise UsageError(error.message, hint=hint) from error


def _folder_name(request: CompareRequest) -> str:
    """The name of the folder of a request. Equal requests have one name, so they continue."""
    digest = sha256_of(request.key().encode())
    return f"compare-{Path(request.model).stem}-{digest[:8]}"
