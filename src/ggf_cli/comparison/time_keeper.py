"""Leave out what a comparison has no time for, while it is drawn."""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic

from ggf_cli.comparison.lineup import Cell
from ggf_cli.comparison.plan import ComparisonPlan
from ggf_cli.engine import Progress


class TimeKeeper:
    """The cells and repeats of a comparison that its time budget has room for.

    Args:
        plan: The comparison. Without a deadline nothing is left out.
        say: Called with a sentence when something is left out.

    Attributes:
        cells: The cells that are drawn, in their order.
        repeats: The repeats that are drawn.
        notes: What was left out, a sentence each.
    """

    def __init__(self, plan: ComparisonPlan, say: Callable[[str], None]) -> None:
        self._plan, self._deadline, self._say = plan, plan.deadline, say
        self.cells, self.repeats = list(plan.cells), plan.repeats
        self.notes: list[str] = []
        self._late = False

    def before(self, cell: Cell, repeat: int) -> None:
        """A repeat of a cell comes next: leave out what would exceed the budget."""
        if self._deadline is None:
            return
        if repeat == 0:
            left = self.cells[self.cells.index(cell) :] if cell in self.cells else []
            # The others are left out when it is their turn: drawing may become faster.
            if cell in self._deadline.to_cut(left):
                self._leave_out(cell)
            left = [other for other in left if other in self.cells]
            if left and self._deadline.is_over(left):
                self._note("the comparison takes longer than its time budget: drawing is slow")
        elif cell is self.cells[0] and not self._deadline.fits_repeat():
            self._end_with(repeat)
        self._deadline.begin()

    def after(self, cell: Cell) -> None:
        """The repeat of the cell was drawn and evaluated."""
        if self._deadline is not None:
            self._deadline.end(cell)

    def watch(self, cell: Cell, repeat: int, progress: Progress) -> None:
        """Find out from the progress of a run whether it would end too late."""
        if self._deadline is None or self._late:
            return
        evaluations = progress.nfe_finished + sum(progress.running_nfe)
        share = evaluations / max(1.0, self._plan.n * self._plan.expected_nfe[cell.id])
        if self._deadline.too_late(cell, min(1.0, share)):
            later = self.cells[self.cells.index(cell) + 1 :]
            self._late = repeat > 0 or self._deadline.can_spare(cell, later)

    @property
    def late(self) -> bool:
        """Whether the run that is drawn is to be stopped."""
        return self._late

    def give_up(self, cell: Cell, repeat: int) -> None:
        """The run of a cell was stopped, since it is late."""
        self._late = False
        if repeat:
            self._end_with(repeat)
            return
        self._leave_out(cell)

    def time(self) -> dict[str, dict[str, float]]:
        """The entry `time` of the document at present; empty if the time was not planned."""
        before, started = self._plan.time, self._plan.started
        if before is None or started is None:
            return {}
        taken = before["taken_s"] + monotonic() - started
        return {"time": {**before, "taken_s": round(taken, 3)}}

    def _end_with(self, repeats: int) -> None:
        self._note(f"{repeats} of {self._plan.repeats} repeats: the time budget is used up")
        self.repeats = repeats

    def _leave_out(self, cell: Cell) -> None:
        assert self._deadline is not None
        for cut in [c for c in self.cells if cell.id in (c.id, c.matches)]:
            self.cells.remove(cut)
            self._note(self._deadline.describe_cut(cut))

    def _note(self, sentence: str) -> None:
        if sentence not in self.notes:
            self.notes.append(sentence)
            self._say(sentence)
