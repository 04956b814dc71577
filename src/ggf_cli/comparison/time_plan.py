"""Plan the time of a comparison: measure costs, and choose what fits the time budget."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from time import monotonic

from ggf_cli.comparison.budget import PLANNED, afford
from ggf_cli.comparison.costs import Costs
from ggf_cli.comparison.deadline import Deadline
from ggf_cli.comparison.durations import as_duration
from ggf_cli.comparison.evaluation_costs import FLOOR_DRAWS
from ggf_cli.comparison.lineup import Cell
from ggf_cli.comparison.request import (
    MAX_SAMPLES,
    MEASURING,
    MOST_MEASURING_S,
    QUICK_S,
    REPEATS,
    CompareRequest,
)
from ggf_cli.comparison.speed import measure_costs
from ggf_cli.errors import UsageError
from ggf_cli.metrics.evaluator import Evaluator, Floor
from ggf_cli.score import ScoreModel


@dataclass(frozen=True, kw_only=True)
class TimePlan:
    """What is drawn, and how long that takes.

    Attributes:
        cells: The cells that are drawn.
        n: Samples of a repeat.
        repeats: Repeats.
        costs: The measured costs.
        notes: Decisions, a sentence each.
        floors: The floor of the first metric.
        time: The entry `time` of compare.json.
        deadline: The end of the time budget; None if the number of samples was given.
    """

    cells: list[Cell]
    n: int
    repeats: int
    costs: Costs
    notes: Sequence[str]
    floors: Mapping[str, Floor | None]
    time: Mapping[str, float]
    deadline: Deadline | None


def plan_time(
    request: CompareRequest,
    model: ScoreModel,
    evaluators: Sequence[Evaluator],
    *,
    batch_size: int,
    processes: int,
    started: float,
    may_exceed: Callable[[str], bool],
) -> TimePlan:
    """Measure the costs of a request, and choose what fits its budget if n is open.

    Args:
        request: The request.
        model: The model, in its precision.
        evaluators: The metrics.
        batch_size: Batch size.
        processes: Number of processes that draw.
        started: When the time budget began, `time.monotonic`.
        may_exceed: See `plan_comparison`.

    Raises:
        UsageError: The time budget is too small.
    """
    cells, repeats, notes = request.cells(), request.repeats or REPEATS, list[str]()
    begun, budget, n = monotonic(), request.budget_s, request.n
    costs = measure_costs(
        cells,
        model,
        evaluators,
        batch_size=batch_size if n is None else min(n, batch_size),
        seconds=min(MEASURING * budget, MOST_MEASURING_S) if n is None else QUICK_S,
        seed=request.seed,
        processes=processes,
        samples=n,
    )
    measuring, deadline = monotonic() - begun, None
    if n is None:
        fewest = max((evaluator.min_samples for evaluator in evaluators), default=2)
        most = MAX_SAMPLES
        if model.conditions is not None and model.conditions.count is not None:
            most = max(1, model.conditions.count // repeats)
        found = afford(
            cells,
            costs,
            seconds=PLANNED * budget - (monotonic() - started),
            repeats=repeats,
            min_samples=min(fewest, most),
            exact=model.distribution is not None and not model.conditional,
            most=most,
        )
        cells, n, repeats, notes = found.cells, found.n, found.repeats, found.notes
        if not found.fits:
            needed = (monotonic() - started + found.seconds) / PLANNED
            notes.append(_may_exceed(needed, budget, n, len(cells), may_exceed))
            budget = needed
        deadline = Deadline(budget_s=budget, started=started, costs=costs, cells=cells, n=n)
    planned = monotonic() - started + costs.total(cells, n, repeats)
    floors = {e.name: e.floor(n, FLOOR_DRAWS) for e in evaluators[:1]}
    return TimePlan(
        cells=cells,
        n=n,
        repeats=repeats,
        costs=replace(costs, batch_size=min(costs.batch_size, n)),
        notes=notes,
        floors=floors,
        time={"planned_s": planned, "measuring_s": measuring, "taken_s": 0.0},
        deadline=deadline,
    )


def error_bar(floor: Floor | None, repeats: int, digits: int) -> str:
    """The expected error bar of a metric in words, from the values of sets of real samples."""
    if floor is None or len(floor.values) < 3:
        return "unknown"
    # Of a distance it is the error bar near its floor; far above it may be wider.
    spread = statistics.stdev(floor.values) / repeats**0.5
    return f"about ± {spread:.{digits}f}, the spread of {len(floor.values)} sets of {floor.what}"


def _may_exceed(
    needed: float, budget: float, n: int, cells: int, ask: Callable[[str], bool]
) -> str:
    """Ask whether the comparison may take longer than its budget; the sentence for its notes."""
    takes = (
        f"the fewest samples for the metrics, {n:,} of each of {cells} settings, take about"
        f" {as_duration(needed)}; the time budget is {as_duration(budget)}"
    )
    if not ask(takes):
        raise UsageError(
            takes,
            hint=f"give a time budget of {as_duration(60 * (needed // 60 + 1))}, or fewer solvers",
        )
    return f"over the time budget, as allowed: {takes}"
