"""Choose samples, repeats and cells that fit a time budget."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ggf_cli.comparison.costs import Costs
from ggf_cli.comparison.durations import as_duration
from ggf_cli.comparison.lineup import Cell

# The share of the budget that is planned; the rest is for what takes longer than expected.
PLANNED = 0.95
# With fewer samples than this times the metrics' minimum, or than 3 in each of the 20 groups for a
# standard error, the comparison is cut first.
COMFORTABLE, LEAST = 3, 60


@dataclass(frozen=True, kw_only=True)
class Allocation:
    """The part of a comparison that fits a time budget.

    Attributes:
        n: Samples of a repeat.
        repeats: Repeats.
        cells: The cells that are kept.
        seconds: Expected time, from the floors to the report.
        fits: Whether it is within the time that is left.
        notes: Decisions, a sentence each.
    """

    n: int
    repeats: int
    cells: list[Cell]
    seconds: float
    fits: bool
    notes: list[str]


def afford(
    cells: Sequence[Cell],
    costs: Costs,
    *,
    seconds: float,
    repeats: int,
    min_samples: int,
    exact: bool = False,
    most: int,
) -> Allocation:
    """Spend a time on as many samples as possible.

    If it is too short for `COMFORTABLE` times `min_samples`, or `LEAST`, it is cut in this order:
    the reference; the most expensive settings of solvers that have several; repeats; samples, down
    to `min_samples`.

    Args:
        cells: The requested cells.
        costs: Their costs.
        seconds: The time that is left.
        repeats: Requested repeats.
        min_samples: The fewest samples of a repeat.
        exact: Whether the floor is one of exact samples, which serve as a reference.
        most: The most samples of a repeat.
    """
    chosen, notes = list(cells), []
    most = max(most, min_samples)
    wanted = min(max(COMFORTABLE * min_samples, LEAST), most)

    def fits(n: int) -> bool:
        return costs.total(chosen, n, repeats) <= seconds

    while not fits(wanted) and (cut := next_cut(chosen, costs)) is not None:
        chosen = [cell for cell in chosen if cut.id not in (cell.id, cell.matches)]
        notes.append(_left_out(cut, costs, wanted, repeats, exact=exact))
    before = repeats
    while not fits(wanted) and repeats > 1:
        repeats -= 1
    if repeats < before:
        notes.append(f"{repeats} repeats in place of {before}: the time budget is too small")
    n = _largest(fits, min_samples, most)
    return Allocation(
        n=n,
        repeats=repeats,
        cells=chosen,
        seconds=costs.total(chosen, n, repeats),
        fits=fits(n),
        notes=notes,
    )


def next_cut(cells: Sequence[Cell], costs: Costs) -> Cell | None:
    """The cell that is left out first: the reference, then the most expensive of a solver.

    A solver keeps one setting, and a comparison two cells.
    """
    if len(cells) <= 2:
        return None
    for cell in cells:
        if cell.role == "reference":
            return cell
    contenders = [cell for cell in cells if cell.role == "contender"]
    spare = [c for c in contenders if sum(other.series == c.series for other in contenders) > 1]
    return max(spare, key=lambda cell: costs.nfe[cell.id], default=None)


def _left_out(cell: Cell, costs: Costs, n: int, repeats: int, *, exact: bool) -> str:
    """The sentence for a cell that is left out."""
    takes = as_duration(repeats * costs.repeat(cell, n))
    text = f"{cell.id} is left out: {n:,} samples of it take {takes}, too long for the time budget"
    if cell.role == "reference" and exact:
        text += "; the floor, of exact samples, is there instead"
    return text


def _largest(fits: Callable[[int], bool], low: int, high: int) -> int:
    """The largest number in low..high that fits; low if none does."""
    while low < high:
        # Doubling first: most numbers are far below the limit.
        middle = min(2 * low, (low + high + 1) // 2)
        if fits(middle):
            low = middle
        else:
            high = middle - 1
    return low
