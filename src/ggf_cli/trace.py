"""Where samples made their steps, read off the engine as it runs."""

from __future__ import annotations

from collections.abc import Iterable

from ggf_cli.engine import FinishedSample, Progress


class Trace:
    """Follows some samples.

    Args:
        indices: Which.
        start: The time they start at.

    Attributes:
        times: {sample index: its times so far, falling but for ways back up, as restart's}.
    """

    def __init__(self, indices: Iterable[int], start: float) -> None:
        self.times: dict[int, list[float]] = {index: [start] for index in indices}
        self._open = set(self.times)

    def see(self, progress: Progress) -> None:
        """Take in where the samples stand after a tick."""
        if not self._open:
            return
        for index, t in zip(progress.running, progress.running_t, strict=True):
            if index in self._open:
                self._add(index, t)

    def end(self, finished: FinishedSample) -> None:
        """A sample has left."""
        if finished.index in self._open:
            self._open.remove(finished.index)
            self._add(finished.index, finished.t)

    def _add(self, index: int, t: float) -> None:
        if t != self.times[index][-1]:
            self.times[index].append(t)
