"""What a run tells: each sample as it finishes, and where the run stands."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from torch import Tensor


class Outcome(StrEnum):
    """How a sample ended."""

    DONE = "done"
    NON_FINITE = "non_finite"
    MAX_NFE = "max_nfe"


@dataclass(frozen=True, kw_only=True)
class FinishedSample:
    """A sample that left the batch.

    Attributes:
        index: Its sample index.
        x: The state it ended with, (C, H, W) on the host, in the range of the data; denoised if `DONE`.
        image: The same as float32 in [0, 1].
        nfe: Evaluations it took, the denoising one included.
        accepted: Steps it took.
        rejected: Attempts thrown away.
        t: The time it reached.
        outcome: How it ended.
    """

    index: int
    x: Tensor
    image: Tensor
    nfe: int
    accepted: int
    rejected: int
    t: float
    outcome: Outcome


@dataclass(frozen=True, kw_only=True)
class Progress:
    """Where a run stands after a tick.

    Attributes:
        finished: Samples that have left the batch.
        nfe_finished: Evaluations they took, in all.
        running: Sample index of each running sample, those that wait for a slot after memory ran out included.
        running_nfe: Evaluations so far of each running sample.
        running_t: Time of each running sample, from T down to t_eps.
        accepted: Steps taken, in all.
        rejected: Attempts thrown away, in all.
        network_calls: Network calls so far.
        rows_evaluated: Rows over all calls.
    """

    finished: int
    nfe_finished: int
    running: tuple[int, ...]
    running_nfe: tuple[int, ...]
    running_t: tuple[float, ...]
    accepted: int
    rejected: int
    network_calls: int
    rows_evaluated: int

    @property
    def utilisation(self) -> float:
        """Evaluations that a sample needed ÷ rows evaluated; padding lowers it."""
        needed = self.nfe_finished + sum(self.running_nfe)
        return needed / self.rows_evaluated if self.rows_evaluated else 1.0
