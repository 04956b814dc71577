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
from ggf_cli.comparison.speed import measure_costs
from ggf_cli.errors import UsageError
from ggf_cli.metrics.evaluator import Evaluator, Floor
from ggf_cli.score import ScoreModel

# The share of the time budget for measuring, at most so many seconds; and that with a given n.
MEASURING, MOST_MEASURING_S, QUICK_S = 0.1, 60.0, 2.0


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
    cells: list[Cell],
    model: ScoreModel,
    evaluators: Sequence[Evaluator],
    *,
    n: int | None,
    most: int,
    repeats: int,
    budget_s: float,
    seed: int,
    batch_size: int,
    processes: int,
    started: float,
    may_exceed: Callable[[str], bool],
) -> TimePlan:
    """Measure the costs of a comparison, and choose what fits its budget if n is open.

    Args:
        cells: The requested cells.
        model: The model, in its precision.
        evaluators: The metrics.
        n: Samples of a repeat; None: chosen.
        most: The most samples of a repeat.
        repeats: Requested repeats.
        budget_s: The time budget in seconds.
        seed: Random seed.
        batch_size: Batch size.
        processes: Number of processes that draw.
        started: When the time budget began, `time.monotonic`.
        may_exceed: See `plan_comparison`.

    Raises:
        UsageError: The time budget is too small.
    """
    begun, notes = monotonic(), list[str]()
    costs = measure_costs(
        cells,
        model,
        evaluators,
        batch_size=batch_size if n is None else min(n, batch_size),
        seconds=min(MEASURING * budget_s, MOST_MEASURING_S) if n is None else QUICK_S,
        seed=seed,
        processes=processes,
        samples=n,
    )
    measuring, deadline = monotonic() - begun, None
    if n is None:
        fewest = max((evaluator.min_samples for evaluator in evaluators), default=2)
        if model.conditions is not None and model.conditions.count is not None:
            most = max(1, min(most, model.conditions.count // repeats))
        found = afford(
            cells,
            costs,
            seconds=PLANNED * budget_s - (monotonic() - started),
            repeats=repeats,
            min_samples=min(fewest, most),
            exact=model.distribution is not None and not model.conditional,
            most=most,
        )
        cells, n, repeats, notes = found.cells, found.n, found.repeats, found.notes
        if not found.fits:
            needed = (monotonic() - started + found.seconds) / PLANNED
            notes.append(_may_exceed(needed, budget_s, n, len(cells), may_exceed))
            budget_s = needed
        deadline = Deadline(budget_s=budget_s, started=started, costs=costs, cells=cells, n=n)
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
