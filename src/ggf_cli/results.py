"""The results of the engine: finished samples, and the progress of a run."""

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
    """A sample that is done or was stopped.

    Attributes:
        index: Its sample index.
        x: Its final state, (*shape) on the host, in the units of the data and not clamped; denoised
            if `DONE`.
        image: The same as float32 in [0, 1], clamped; None if the model has no data range.
        nfe: Its network evaluations, the denoising one included.
        accepted: Its accepted steps.
        rejected: Its rejected attempts.
        t: The time it reached.
        outcome: How it ended.
    """

    index: int
    x: Tensor
    image: Tensor | None
    nfe: int
    accepted: int
    rejected: int
    t: float
    outcome: Outcome


@dataclass(frozen=True, kw_only=True)
class Progress:
    """The state of a run after a tick.

    Attributes:
        finished: Number of finished samples.
        nfe_finished: Their network evaluations, in all.
        running: Sample index of each running sample, including those without a slot after memory
            ran out.
        running_nfe: Evaluations so far of each running sample.
        running_t: Time of each running sample, from T down to t_eps.
        accepted: Accepted steps, in all.
        rejected: Rejected attempts, in all.
        network_calls: Network calls so far.
        rows_evaluated: Rows of all calls.
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
        """The share of evaluated rows that belonged to a running sample; padding lowers it."""
        needed = self.nfe_finished + sum(self.running_nfe)
        return needed / self.rows_evaluated if self.rows_evaluated else 1.0
