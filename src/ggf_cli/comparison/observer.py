"""Callbacks of a comparison: progress, warnings, ended runs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from ggf_cli.runs.observer import ProgressCallback, RunObserver

if TYPE_CHECKING:
    from ggf_cli.comparison.lineup import Cell
    from ggf_cli.engine import Progress


class ComparisonObserver:
    """Callbacks of a comparison. The methods of this class ignore every event."""

    def begin(self, cell: Cell, label: str, repeat: int, kept: bool) -> None:
        """A repeat of a cell begins.

        Args:
            cell: The cell.
            label: Its label, as tables print it.
            repeat: The number of the repeat, from 0.
            kept: Its run has ended earlier; only its evaluation follows.
        """

    def tick(self, progress: Progress) -> None:
        """The engine has made a tick.

        Args:
            progress: The progress of the run, including samples that earlier launches finished.
        """

    def out_of_memory(self, batch_size: int) -> None:
        """Memory ran out; the comparison continues with this smaller batch size."""

    def warn(self, text: str) -> None:
        """A change of the comparison that a caller should see, one sentence."""

    def end(self, cell: Cell, nfe: float | None) -> None:
        """The repeat has ended, with this mean NFE; None if the cell has failed."""


class CellObserver(RunObserver):
    """The observer of the run of a repeat: passes its events to the observer of the comparison.

    Args:
        observer: The observer of the comparison.
        watch: Called with the progress after every tick too.

    Attributes:
        batch_size: The batch size after memory ran out; None if it did not.
    """

    def __init__(
        self, observer: ComparisonObserver, watch: Callable[[Progress], None] = lambda _: None
    ) -> None:
        self._observer, self._watch = observer, watch
        self.batch_size: int | None = None

    def warn(self, text: str) -> None:
        self._observer.warn(text)

    def out_of_memory(self, before: int, batch_size: int) -> None:
        self.batch_size = batch_size
        self._observer.out_of_memory(batch_size)

    @contextmanager
    def sampling(self, num_samples: int, expected_nfe: int | None) -> Iterator[ProgressCallback]:
        def tick(progress: Progress) -> None:
            self._observer.tick(progress)
            self._watch(progress)

        yield tick
