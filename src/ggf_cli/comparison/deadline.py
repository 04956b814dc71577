"""Keep a comparison within its time budget while it is drawn.

The measured time of each repeat corrects the expected time of what is left. What would end more
than `TOLERANCE` after the budget is left out: the cells in the order of `budget.next_cut`, then
further repeats. At least two cells with one repeat are drawn, whatever they take.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from time import monotonic

from ggf_cli.comparison.budget import next_cut
from ggf_cli.comparison.costs import Costs
from ggf_cli.comparison.durations import as_duration
from ggf_cli.comparison.lineup import Cell

# The share of the budget by which a comparison may exceed it, and the share at which it is cut:
# before a run, there is still something to cut later.
TOLERANCE, CUT_AT = 0.10, 0.05
# A run is interrupted only after this share of its evaluations, or all of its expected time; and
# only after so many seconds.
CERTAIN, CERTAIN_S = 0.1, 3.0


class Deadline:
    """The end of a time budget.

    Args:
        budget_s: The budget.
        started: When the budget began, on `clock`.
        costs: The expected costs.
        cells: The cells.
        n: Samples of a repeat.
        clock: The present time in seconds.
    """

    def __init__(
        self,
        *,
        budget_s: float,
        started: float,
        costs: Costs,
        cells: Sequence[Cell],
        n: int,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self._budget, self._started, self._costs = budget_s, started, costs
        self._cells, self._n, self._clock = cells, n, clock
        # Expected and measured time of the repeats that were drawn.
        self._expected = self._measured = 0.0
        self._took: dict[str, float] = {}
        self._begun = clock()

    @property
    def seconds(self) -> float:
        """Seconds since the budget began."""
        return self._clock() - self._started

    @property
    def delay(self) -> float:
        """The measured time of what was drawn, as a multiple of the expected one."""
        return self._measured / self._expected if self._expected else 1.0

    def begin(self) -> None:
        """A repeat of a cell begins."""
        self._begun = self._clock()

    def end(self, cell: Cell) -> None:
        """The repeat of the cell has ended."""
        took = self._clock() - self._begun
        self._took[cell.id] = took
        self._expected += self._costs.repeat(cell, self._n)
        self._measured += took

    def to_cut(self, left: Sequence[Cell]) -> list[Cell]:
        """The cells that would be left out if drawing stays as fast as it is.

        Args:
            left: The cells of the first repeat that are not drawn yet.
        """
        cut: list[Cell] = []
        remaining = list(left)
        drawn = [cell for cell in self._cells if cell.id in self._took]
        while self._end(remaining) > (1 + CUT_AT) * self._budget:
            candidate = self._candidate([*drawn, *remaining], remaining)
            if candidate is None:
                break
            gone = [c for c in remaining if candidate.id in (c.id, c.matches)]
            cut += gone
            remaining = [cell for cell in remaining if cell not in gone]
        return cut

    def fits_repeat(self) -> bool:
        """Whether a further repeat of all cells fits."""
        return self._end(self._cells) <= (1 + CUT_AT) * self._budget

    def too_late(self, cell: Cell, share: float) -> bool:
        """Whether a run would end too late to be worth finishing.

        Args:
            cell: The cell that is drawn.
            share: The finished share of its evaluations.
        """
        took = self._clock() - self._begun
        expected = self._costs.drawing(cell, self._n)
        if share <= 0 or took < CERTAIN_S or (share < CERTAIN and took < expected):
            return False
        left = took * (1 - share) / share + self.delay * self._costs.evaluation(self._n)
        end = self.seconds + left + self._costs.report(len(self._cells))
        return end > (1 + TOLERANCE) * self._budget

    def can_spare(self, cell: Cell, left: Sequence[Cell]) -> bool:
        """Whether a cell that is being drawn can be left out.

        Args:
            cell: The cell.
            left: The cells after it.
        """
        drawn = [other for other in self._cells if other.id in self._took]
        others = drawn + [other for other in left if other.matches != cell.id]
        same = [c for c in others if (c.series, c.role) == (cell.series, cell.role)]
        return len(others) >= 2 and (cell.role != "contender" or bool(same))

    def is_over(self, left: Sequence[Cell]) -> bool:
        """Whether the comparison will exceed the budget by more than the tolerance."""
        return self._end(left) > (1 + TOLERANCE) * self._budget

    def describe_cut(self, cell: Cell) -> str:
        """The sentence for a cell that is left out while drawing."""
        return (
            f"{cell.id} is left out: drawing takes {self.delay:.2g} times as long as planned, and"
            f" the time budget is {as_duration(self._budget)}"
        )

    def _candidate(self, cells: Sequence[Cell], remaining: Sequence[Cell]) -> Cell | None:
        """The next cell to cut that is not drawn yet."""
        found = next_cut(cells, self._costs)
        if found is not None and found in remaining:
            return found
        # The settings of a solver are drawn: a matched one may be missing.
        spare = [cell for cell in remaining if cell.role == "matched"]
        if len(cells) <= 2 or not spare:
            return None
        return max(spare, key=lambda cell: self._costs.repeat(cell, self._n))

    def _end(self, cells: Sequence[Cell]) -> float:
        """When the comparison would end after these cells, in seconds since it began."""
        left = sum(
            self._took.get(cell.id, self.delay * self._costs.repeat(cell, self._n))
            for cell in cells
        )
        return self.seconds + left + self._costs.report(len(self._cells))
