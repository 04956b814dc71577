"""The slots of a batch: which sample each one holds, and where that sample stands."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from ggf_cli.solvers.base import Rows

# Time, accepted steps and rejected attempts of a sample.
State = tuple[float, int, int]


@dataclass(frozen=True, kw_only=True)
class WaitingSample:
    """A sample without a slot: not started yet, or moved to the host when memory ran out.

    Attributes:
        index: Its sample index.
        state: Its time, accepted steps and rejected attempts.
        nfe: Evaluations so far.
        rows: Its row, on the host; None if it is not started.
    """

    index: int
    state: State
    nfe: int = 0
    rows: Rows | None = None


class Slots:
    """The slots of a batch, as the host knows them.

    Attributes:
        index: The sample index of each slot; None: a slot without a sample.
        state: Time, accepted steps and rejected attempts of each slot, as of the last tick.
    """

    def __init__(self) -> None:
        self.index: list[int | None] = []
        self.state: list[State] = []

    def open(self, count: int, state: State) -> None:
        """Reset to `count` slots without samples."""
        self.index = [None] * count
        self.state = [state] * count

    def seat(self, slots: Iterable[int], samples: Sequence[WaitingSample]) -> None:
        """Put samples into the first of the given slots."""
        for slot, sample in zip(slots, samples, strict=False):
            self.index[slot], self.state[slot] = sample.index, sample.state

    def leave(self, slot: int) -> int:
        """Free a slot; returns the index of its sample."""
        index, self.index[slot] = self.index[slot], None
        assert index is not None
        return index

    def keep(self, slots: Iterable[int]) -> list[int]:
        """Drop the slots without a sample, except the given ones; returns those that are left."""
        but = set(slots)
        kept = [slot for slot, index in enumerate(self.index) if index is not None or slot in but]
        self.index = [self.index[slot] for slot in kept]
        self.state = [self.state[slot] for slot in kept]
        return kept

    def free(self) -> list[int]:
        """The slots without a sample."""
        return [slot for slot, index in enumerate(self.index) if index is None]

    def running(self) -> list[int]:
        """The slots with a sample."""
        return [slot for slot, index in enumerate(self.index) if index is not None]
