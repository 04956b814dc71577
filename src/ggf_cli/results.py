"""The results of the engine: finished samples, and the progress of a run."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from torch import Tensor

from ggf_cli.sde import SDE


class Outcome(StrEnum):
    """How a sample ended."""

    DONE = "done"
    NON_FINITE = "non_finite"
    MAX_NFE = "max_nfe"


@dataclass(frozen=True, kw_only=True)
class Trajectory:
    """A sample at k noise levels, from T to t_eps; with N samples, each tensor is (N, k, ...).

    Attributes:
        x: States, (k, *shape), in the units of the data; the first is that at T, the last one the
            finished sample. NaN at levels that a stopped sample did not reach.
        denoised: Estimates E[x0 | x] by Tweedie's formula, (k, *shape), likewise.
        t: The times of the states, (k,) float64: at or just below the noise level, because samples
            have steps of their own.
    """

    x: Tensor
    denoised: Tensor
    t: Tensor


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
        trajectory: Its trajectory, if it was recorded.
    """

    index: int
    x: Tensor
    image: Tensor | None
    nfe: int
    accepted: int
    rejected: int
    t: float
    outcome: Outcome
    trajectory: Trajectory | None = None


@dataclass(frozen=True, kw_only=True)
class Step:
    """The running samples after one network call. The tensors must not be changed.

    A step of a solver may take several network calls, and an attempt may be rejected: x and t of a
    sample change when a step is accepted.

    Attributes:
        index: Sample indices, (B,) int64.
        x: States, (B, *shape), in the units of the data.
        t: Times, (B,).
        done: True where x is the final sample, (B,) bool.
        nfe: Evaluations of each sample so far, (B,) int64 on the host.
        evaluated_x: The states at which the network was evaluated, (B, *shape).
        evaluated_t: Their times, (B,).
        score: The score there, guided if the model has guidance, (B, *shape).
        sde: The forward SDE.
    """

    index: Tensor
    x: Tensor
    t: Tensor
    done: Tensor
    nfe: Tensor
    evaluated_x: Tensor
    evaluated_t: Tensor
    score: Tensor
    sde: SDE

    @property
    def denoised(self) -> Tensor:
        """The estimate E[x0 | x] at the evaluated states by Tweedie's formula, (B, *shape)."""
        return self.sde.tweedie_denoise(self.evaluated_x, self.evaluated_t, self.score)


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
