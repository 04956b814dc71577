"""`compare`: compare solvers from Python, as `ggf compare` does."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from ggf_cli.comparison.analysis import MARGIN
from ggf_cli.comparison.lineup import DEFAULT, EPS_REL, MATCH, parse_contender
from ggf_cli.comparison.observer import ComparisonObserver
from ggf_cli.comparison.report import write_outputs
from ggf_cli.comparison.request import BUDGET_S, CompareRequest, metrics_of, plan_comparison
from ggf_cli.comparison.runner import Comparison
from ggf_cli.errors import OptionError
from ggf_cli.metrics.evaluator import Evaluator, make_evaluators
from ggf_cli.per_sample import PerSampleLike
from ggf_cli.runtime import compilation
from ggf_cli.runtime.interrupt import interruptible
from ggf_cli.scalars import as_float, shown
from ggf_cli.score import ScoreModel

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class ComparisonResult:
    """A comparison that has ended or was interrupted.

    Attributes:
        folder: Its folder, with the report.
        document: The content of its `compare.json`.
    """

    folder: Path
    document: Mapping[str, Any]

    @property
    def interrupted(self) -> bool:
        """Whether the comparison was interrupted. The same request continues it."""
        return bool(self.document["status"] == "interrupted")


def compare(
    model: ScoreModel,
    solvers: str | Sequence[str] = (),
    *,
    out: str | Path,
    eps_rel: float | Sequence[float] = EPS_REL,
    nfe: int | Sequence[int] | str = MATCH,
    preset: str | None = None,
    n: int | None = None,
    budget_s: float = BUDGET_S,
    repeats: int | None = None,
    seed: int = 0,
    batch_size: int | None = None,
    metrics: str | Sequence[str] = (),
    reference: str | Path | None = None,
    margin: float = MARGIN,
    baseline: bool = True,
    conditions: PerSampleLike | None = None,
    guidance: float | None = None,
    guidance_interval: tuple[float, float] | None = None,
    observer: ComparisonObserver | None = None,
) -> ComparisonResult:
    """Compare solvers on the same samples into a folder: report, figures and `compare.json`.

    Sample i starts from the same prior noise in every cell. Each repeat of a cell is a run of its
    own, in `cells` in the folder. An interrupted comparison continues if it is called again with
    the same arguments.

    Args:
        model: A `ScoreModel`, from `load_model` or of your own.
        solvers: Solvers with options, "adaptive:norm=linf"; none: a default set.
        out: The folder of the comparison, created if it does not exist.
        eps_rel: Tolerances of adaptive stochastic solvers.
        nfe: NFE of fixed-step solvers; "match": that of each tolerance; "default": their own.
        preset: A table of the paper, in place of solvers and settings.
        n: Samples of a repeat; None: as many as the time budget allows.
        budget_s: Time budget in seconds, if `n` is None: for measuring, drawing, evaluation and
            report.
        repeats: Repeats, each with samples of its own.
        seed: Random seed, in 0..2^63 - 1.
        batch_size: Samples evaluated together; None: chosen.
        metrics: Metrics, the first one decides; none: those of the model.
        reference: A folder of real images, or a .npz file of their statistics or of samples x.
        margin: How much worse than the reference a setting may be, as a share: 0.05. The folder
            may hold the same comparison with another margin.
        baseline: Add Euler–Maruyama with 1000 steps, unless `nfe` has budgets.
        conditions: As in `ggf_cli.sample`, for all samples of all repeats. The exact distribution
            of a conditional model is not used: give a reference.
        guidance: As in `ggf_cli.sample`. Matched solvers get as many evaluations as the others.
        guidance_interval: As in `ggf_cli.sample`.
        observer: Callbacks for progress.

    Returns:
        The folder and the content of its `compare.json`.

    Raises:
        UsageError: A value is out of range, the model has no metric, the metrics need more samples,
            or the time budget is too small.
        OutputError: The folder cannot be used, or holds another comparison.
        KeyboardInterrupt: The comparison was interrupted. What was drawn is in the folder.
    """
    model = model.with_conditions(
        conditions, guidance=guidance, guidance_interval=guidance_interval
    )
    if reference is not None and not isinstance(reference, str | Path):
        raise OptionError(
            f"reference is {shown(reference)}, it must be the path of a folder or a file",
            option="reference",
            hint="np.savez('data.npz', x=data) writes samples to a file",
        )
    named: tuple[str, ...] = _listed(solvers) or (() if preset else tuple(DEFAULT))
    contenders = tuple(map(parse_contender, named))
    request = CompareRequest(
        contenders=contenders,
        model=model.name,
        eps_rel=_listed(eps_rel),
        nfe=nfe if isinstance(nfe, str) else _listed(nfe),
        preset=preset,
        n=n,
        budget_s=budget_s,
        repeats=repeats,
        seed=seed,
        metrics=_listed(metrics),
        reference=None if reference is None else Path(reference),
        margin=as_float(margin, "margin"),
        baseline=baseline,
    )
    evaluators = evaluators_of(request, model)
    plan = plan_comparison(request, model, evaluators, Path(out), batch_size=batch_size)
    comparison = Comparison(plan, margin=request.margin)
    compilation.warm_up(model, plan.batch_size)
    with interruptible() as stop:
        result = draw_and_report(comparison, observer=observer, stop=stop)
    if result.interrupted:
        raise KeyboardInterrupt
    return result


def _listed(value: T | Iterable[T]) -> tuple[T, ...]:
    """One value, or several, as a tuple; a text is one value."""
    if isinstance(value, Iterable) and not isinstance(value, str):
        return tuple(value)
    return (value,)


def evaluators_of(request: CompareRequest, model: ScoreModel) -> list[Evaluator]:
    """The evaluators of the requested metrics, else of those of the model.

    Raises:
        UsageError: The model has no metric, or the reference is of no use.
    """
    names = metrics_of(request, model)
    return make_evaluators(names, model, reference=request.reference, device=model.device)


def draw_and_report(
    comparison: Comparison,
    *,
    observer: ComparisonObserver | None = None,
    stop: Callable[[], bool] = lambda: False,
) -> ComparisonResult:
    """Draw a comparison, or what is left of it, and write its report.

    Args:
        comparison: The comparison.
        observer: Callbacks.
        stop: Called at every engine tick; True interrupts.

    Raises:
        OutputError: A file cannot be written.
        JobError: The other processes of the job cannot be reached.
    """
    try:
        document = comparison.run(observer, stop)
    except KeyboardInterrupt:
        document = comparison.result()
    folder = comparison.folder
    pictures, reference = comparison.pictures(), comparison.reference()
    document = write_outputs(document, pictures, folder, reference=reference)
    document = comparison.with_time(document)
    return ComparisonResult(folder=folder, document=document)
