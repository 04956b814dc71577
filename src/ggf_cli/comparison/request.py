"""A requested comparison, and its plan."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING

from ggf_cli.comparison.analysis import MARGIN
from ggf_cli.comparison.lineup import (
    EPS_REL,
    MATCH,
    REFERENCE,
    Cell,
    Contender,
    make_cells,
    without_reference,
)
from ggf_cli.comparison.presets import Preset, find_preset
from ggf_cli.errors import OptionError
from ggf_cli.metrics.registry import (
    METRICS,
    ModelFacts,
    default_metrics,
    holds_samples,
    min_samples_of,
    spaces_of,
)

if TYPE_CHECKING:
    from ggf_cli.comparison.plan import ComparisonPlan
    from ggf_cli.metrics.evaluator import Evaluator
    from ggf_cli.score import ScoreModel

REPEATS = 1
BUDGET_S = 600.0
MAX_SAMPLES = 10_000_000
MAX_REPEATS = 1000
MAX_MARGIN = 10.0


@dataclass(frozen=True, kw_only=True)
class CompareRequest:
    """A comparison as the caller asks for it. Nothing is loaded yet.

    Attributes:
        contenders: Solvers, see `parse_contender`; none with a preset.
        model: Name or path of the model, as `ggf sample --model` takes it.
        config: The value of `--config`; None without one.
        label: The value of `--label`; None without one.
        guidance: The value of `--guidance`; None without one.
        guidance_interval: The value of `--guidance-interval`; None without one.
        eps_rel: Tolerances of adaptive stochastic solvers.
        nfe: Budgets of fixed-step solvers, "match" or "default", see `make_cells`.
        preset: The name of a table of the paper; None without one.
        n: Samples of a repeat; None: chosen for the time budget.
        budget_s: Time budget, seconds.
        repeats: Repeats; None: chosen.
        seed: Random seed.
        metrics: Names of metrics; none: those of the model.
        reference: Real images or their statistics; None without.
        margin: The share of the baseline's value by which a setting may be worse.
        baseline: Add the reference, Euler–Maruyama with 1000 steps; it is never added to a list of
            budgets.

    Raises:
        UsageError: A value is out of range, options exclude each other, or nothing to compare.
    """

    contenders: tuple[Contender, ...]
    model: str
    eps_rel: tuple[float, ...] = EPS_REL
    nfe: tuple[int, ...] | str = MATCH
    preset: str | None = None
    n: int | None = None
    budget_s: float = BUDGET_S
    repeats: int | None = None
    seed: int = 0
    metrics: tuple[str, ...] = ()
    reference: Path | None = None
    margin: float = MARGIN
    baseline: bool = True
    config: str | None = None
    label: str | None = None
    guidance: float | None = None
    guidance_interval: str | None = None

    def __post_init__(self) -> None:
        if self.n is not None and not 2 <= self.n <= MAX_SAMPLES:
            raise OptionError(f"n is {self.n}, it must lie in 2..{MAX_SAMPLES:,}", option="n")
        if self.repeats is not None and not 1 <= self.repeats <= MAX_REPEATS:
            raise OptionError(
                f"repeats is {self.repeats}, it must lie in 1..{MAX_REPEATS}", option="repeats"
            )
        if not 0 < self.margin <= MAX_MARGIN:
            raise OptionError(
                f"margin is {self.margin:g}, it must lie above 0 and be {MAX_MARGIN:g} at most",
                option="margin",
                hint="5 % is 0.05",
            )
        if not isinstance(self.nfe, str) and min(self.nfe, default=0) < 1:
            raise OptionError(
                f"nfe is {_nfe_text(self.nfe) or 'empty'}, a budget must be 1 at least",
                option="nfe",
            )
        if self.preset and (self.contenders or self.eps_rel != EPS_REL or self.nfe != MATCH):
            raise OptionError(
                f"preset {self.preset} has its own solvers and settings",
                option="preset",
                others=["eps_rel", "nfe"],
                hint="leave out the solvers, eps_rel and nfe",
            )
        self.cells()

    @property
    def table(self) -> Preset | None:
        """The preset; None without one."""
        return find_preset(self.preset) if self.preset else None

    def cells(self) -> list[Cell]:
        """All cells of the request."""
        table = self.table
        cells = make_cells(
            table.line_up(self.model) if table else self.contenders,
            eps_rel=self.eps_rel,
            nfe=self.nfe,
            reference=table.reference if table else REFERENCE,
        )
        return cells if self.baseline else without_reference(cells)

    def tolerance(self) -> float:
        """The smallest relative tolerance of all solvers."""
        from ggf_cli.solvers import make_solver

        return min(make_solver(cell.solver, cell.given).tolerance for cell in self.cells())

    def key(self) -> str:
        """A text that two requests share if they are equal."""
        fields = asdict(self)
        # Samples do not depend on the margin: another one gives another analysis of them.
        del fields["margin"]
        # Folders of comparisons without these keep their names.
        for name in ("config", "label", "guidance", "guidance_interval"):
            if fields[name] is None:
                del fields[name]
        if self.baseline:
            del fields["baseline"]
        return repr(fields)


def plan_comparison(
    request: CompareRequest,
    model: ScoreModel,
    evaluators: Sequence[Evaluator],
    folder: Path,
    *,
    batch_size: int | None = None,
    summary: str | None = None,
    processes: int = 1,
    started: float | None = None,
    measured: bool = False,
    may_exceed: Callable[[str], bool] = lambda question: False,
) -> ComparisonPlan:
    """Choose samples, repeats, cells and batch size, as far as the request leaves them open.

    The choices of a comparison in the folder are kept.

    Args:
        request: The request.
        model: The model, in its precision.
        evaluators: The metrics.
        folder: The folder of the comparison.
        batch_size: Batch size; None: chosen.
        summary: One line about the model.
        processes: Number of processes that draw, each as fast as this one.
        started: When the time budget began, `time.monotonic`; None: now.
        measured: Measure the time of a given number of samples too.
        may_exceed: Called with a sentence if the budget is too small for the fewest samples;
            whether the comparison may take longer.

    Raises:
        UsageError: The metrics need more samples, or the time budget is too small.
    """
    from ggf_cli.batch_size import choose_batch_size
    from ggf_cli.comparison.folder import read_document
    from ggf_cli.comparison.plan import ComparisonPlan
    from ggf_cli.comparison.speed import known_nfe
    from ggf_cli.comparison.time_plan import plan_time

    started = monotonic() if started is None else started
    if request.n is not None:
        check_samples(request.n, {e.title: e.min_samples for e in evaluators})
    cells, n, repeats, notes = request.cells(), request.n, request.repeats, list[str]()
    table, before = request.table, read_document(folder)
    batch_size = batch_size or choose_batch_size(model, n or MAX_SAMPLES)
    if model.conditions is not None:
        notes.append(
            f"every sample has a condition ({model.conditions.description}); the reference should"
            " have the same share of each"
        )
        model.conditions.check([n * (repeats or REPEATS) - 1] if n is not None else [])
    if table and request.model in table.published:
        notes.append(f"published numbers: {table.summary}, on the authors' machines")
    budget_s = request.budget_s if n is None else None
    if before is not None and n is None:
        n, repeats, notes = before["n"], before["repeats"], before["notes"]
        kept = {cell["id"] for cell in before["cells"]}
        cells = [cell for cell in cells if cell.id in kept]
        budget_s = before["budget_s"]
    plan_of_time = None
    if n is None or (measured and before is None):
        plan_of_time = plan_time(
            cells,
            model,
            evaluators,
            n=n,
            most=MAX_SAMPLES,
            repeats=repeats or REPEATS,
            budget_s=request.budget_s,
            seed=request.seed,
            batch_size=batch_size,
            processes=processes,
            started=started,
            may_exceed=may_exceed,
        )
        cells, n, repeats = plan_of_time.cells, plan_of_time.n, plan_of_time.repeats
        notes += plan_of_time.notes
    batch_size, repeats = min(batch_size, n), repeats or REPEATS
    device = str(model.device)
    return ComparisonPlan(
        model=model,
        cells=cells,
        evaluators=evaluators,
        n=n,
        repeats=repeats,
        seed=request.seed,
        batch_size=batch_size,
        folder=folder,
        command=_command(
            request,
            cells,
            ["--n", str(n), "--repeats", str(repeats), "--seed", str(request.seed)],
            ["--metric", ",".join(evaluator.name for evaluator in evaluators)],
            ["--reference", str(request.reference)] if request.reference else [],
            ["--margin", f"{100 * request.margin:g}%"],
            ["--precision", model.precision, *(["--compile"] if model.compiled else [])],
            ["--batch-size", str(batch_size)],
            # Which of several GPUs a process of a job uses does not matter.
            ["--device", device.split(":")[0] if processes > 1 else device],
        ),
        model_argument=request.model,
        config=request.config,
        label=request.label,
        expected_nfe=plan_of_time.costs.nfe if plan_of_time else known_nfe(cells),
        budget_s=budget_s,
        preset=request.preset,
        published=table.numbers(request.model, cells) if table else {},
        summary=summary,
        notes=notes,
        costs=plan_of_time.costs if plan_of_time else None,
        floors=plan_of_time.floors if plan_of_time else {},
        time=plan_of_time.time if plan_of_time else (before or {}).get("time"),
        started=started,
        deadline=plan_of_time.deadline if plan_of_time else None,
    )


def check_samples(n: int, fewest: Mapping[str, int]) -> None:
    """Check that metrics can evaluate so many samples, {title: fewest samples}.

    Raises:
        OptionError: A metric needs more.
    """
    for title, least in fewest.items():
        if n < least:
            raise OptionError(
                f"n is {n:,}, and {title} needs {least:,} samples at least",
                option="n",
                others=["metrics"],
                hint=f"draw {least:,} samples or more, or choose another metric",
            )


def metrics_of(request: CompareRequest, model: ModelFacts) -> tuple[str, ...]:
    """The requested metrics, else those of the model.

    Raises:
        UsageError: The model has no metric, or the reference is of no use.
    """
    reference = request.reference
    names = request.metrics or tuple(default_metrics(model, reference))
    if not names:
        unusable = reference is not None and reference.is_file() and not holds_samples(reference)
        found = f": {reference} has no array x" if unusable else ""
        raise OptionError(
            f"there is nothing to compare samples of {model.name} with{found}",
            option="reference",
            hint="give as reference a .npz file with samples x, or a folder of real images (which"
            " needs ggf-cli[fid])",
        )
    return names


def check_possible(request: CompareRequest, model: ModelFacts) -> None:
    """Check, without torch, that the metrics fit the model and the number of samples.

    Raises:
        UsageError: They do not.
    """
    spaces = spaces_of(metrics_of(request, model), model, request.reference)
    if request.n is not None:
        fewest = {METRICS[m].title: min_samples_of(m, space) for m, space in spaces.items()}
        check_samples(request.n, fewest)


def _nfe_text(nfe: tuple[int, ...] | str) -> str:
    """Budgets as --nfe takes them."""
    return nfe if isinstance(nfe, str) else ",".join(map(str, nfe))


def _command(request: CompareRequest, cells: Sequence[Cell], *more: list[str]) -> str:
    """The `ggf compare` command that repeats a comparison, with every default written out."""
    words = ["ggf", "compare", *map(str, request.contenders), "--model", request.model]
    words += ["--config", request.config] if request.config else []
    words += ["--label", request.label] if request.label else []
    if request.guidance is not None:
        words += ["--guidance", f"{request.guidance:g}"]
    if request.guidance_interval is not None:
        words += ["--guidance-interval", request.guidance_interval]
    if request.preset:
        words += ["--preset", request.preset]
    else:
        left = {cell.given.get("eps_rel") for cell in cells}
        if tolerances := [f"{eps_rel:g}" for eps_rel in request.eps_rel if eps_rel in left]:
            words += ["--eps-rel", ",".join(tolerances)]
        words += ["--nfe", _nfe_text(request.nfe)]
        if isinstance(request.nfe, str) and not any(cell.role == "reference" for cell in cells):
            words.append("--no-baseline")
    return shlex.join(words + [word for part in more for word in part])
