"""Record the step times of samples while the engine runs."""

from __future__ import annotations

from collections.abc import Iterable

from ggf_cli.engine import FinishedSample, Progress


class Trace:
    """The step times of some samples.

    Args:
        indices: The samples to record.
        start: The time at which they start.

    Attributes:
        times: {sample index: its times so far}; they fall, except where a solver adds noise
            (restart).
    """

    def __init__(self, indices: Iterable[int], start: float) -> None:
        self.times: dict[int, list[float]] = {index: [start] for index in indices}
        self._open = set(self.times)

    def update(self, progress: Progress) -> None:
        """Record the times of the running samples after a tick."""
        if not self._open:
            return
        for index, t in zip(progress.running, progress.running_t, strict=True):
            if index in self._open:
                self._add(index, t)

    def finish(self, finished: FinishedSample) -> None:
        """Record the last time of a finished sample."""
        if finished.index in self._open:
            self._open.remove(finished.index)
            self._add(finished.index, finished.t)

    def _add(self, index: int, t: float) -> None:
        if t != self.times[index][-1]:
            self.times[index].append(t)
