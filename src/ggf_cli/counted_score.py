"""Count the evaluations of a score, for each slot of a batch."""

from __future__ import annotations

import torch
from torch import Tensor

from ggf_cli.errors import UsageError
from ggf_cli.score import ScoreFunction


class CountedScore:
    """A score that counts its evaluations and records which rows had a score with NaN or infinity.

    Args:
        score: x (B, *), t (B,) -> (B, *).
        dtype: The dtype of x when `score` is called. The result has the dtype of the caller's x.

    Attributes:
        calls: Network calls so far.
        rows_evaluated: Rows of all calls, padding included.
        nfe: Evaluations of the present sample of each slot, (B,) int64 on the host.
        finite: (B,) bool on the device; False once the score of a row was not finite.
        conditions: The conditions of the rows of the next call, (B, ...); None: the model has none.
    """

    def __init__(self, score: ScoreFunction, dtype: torch.dtype) -> None:
        self._score, self._dtype = score, dtype
        self.calls = 0
        self.rows_evaluated = 0
        self.nfe = torch.zeros(0, dtype=torch.int64)
        self.finite = torch.zeros(0, dtype=torch.bool)
        self.conditions: Tensor | None = None

    def __call__(self, x: Tensor, t: Tensor) -> Tensor:
        given = () if self.conditions is None else (self.conditions,)
        score = self._score(x.to(self._dtype), t, *given)
        if not isinstance(score, Tensor) or score.is_complex():
            raise UsageError(
                f"the score is a {type(score).__name__}", hint="it must be a real tensor"
            )
        if score.shape != x.shape:
            raise UsageError(
                f"the score of a batch of shape {tuple(x.shape)} has shape {tuple(score.shape)}",
                hint="a score has the shape of x",
            )
        self.calls += 1
        self.rows_evaluated += len(x)
        self.nfe += 1
        # The largest element of a row is finite only if all are (amax propagates NaN); seven times
        # as fast as testing each element.
        self.finite &= score.flatten(1).abs().amax(1).isfinite()
        return score.to(x.dtype)

    def open_slots(self, slots: int, device: torch.device) -> None:
        """Reset to `slots` new rows."""
        self.nfe = torch.zeros(slots, dtype=torch.int64)
        self.finite = torch.ones(slots, dtype=torch.bool, device=device)

    def reset_slots(self, slots: Tensor) -> None:
        """Reset the counts of the given slots, (k,) int64 on the host."""
        self.nfe[slots] = 0
        self.finite[slots.to(self.finite.device)] = True

    def keep_slots(self, slots: Tensor) -> None:
        """Drop all but the given slots, (k,) int64 on the host."""
        self.nfe = self.nfe[slots]
        self.finite = self.finite[slots.to(self.finite.device)]
