"""Count the evaluations of a score, for each slot of a batch."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ggf_cli.errors import UsageError
from ggf_cli.score import ScoreModel


class CountedScore:
    """The score of a model. It counts evaluations and records which rows had NaN or infinity.

    With guidance, the rows within its interval are evaluated a second time, without condition, and
    both evaluations count.

    Args:
        model: The model.
        rows_for: The batch size of a network call that is needed for a number of rows.

    Attributes:
        calls: Network calls so far.
        rows_evaluated: Rows of all calls, padding included.
        nfe: Evaluations of the present sample of each slot, (B,) int64 on the host.
        finite: (B,) bool on the device; False once the score of a row was not finite.
        conditions: The conditions of the rows of the next call, (B, ...); None: the model has none.
        keep_last: Whether to keep `last`.
        last: x (B, *), t (B,) and the score (B, *) of the last call; None without one.
    """

    def __init__(
        self, model: ScoreModel, rows_for: Callable[[int], int] = lambda rows: rows
    ) -> None:
        self._model, self._rows_for = model, rows_for
        self.calls = 0
        self.rows_evaluated = 0
        self.nfe = torch.zeros(0, dtype=torch.int64)
        self.finite = torch.zeros(0, dtype=torch.bool)
        self.conditions: Tensor | None = None
        self.keep_last = False
        self.last: tuple[Tensor, Tensor, Tensor] | None = None

    def __call__(self, x: Tensor, t: Tensor) -> Tensor:
        score = self._evaluate(x, t, self.conditions)
        self.nfe += 1
        if self._model.guidance is not None and self.conditions is not None:
            score = self._guide(score, x, t, self.conditions)
        # The largest element of a row is finite only if all are (amax propagates NaN); seven times
        # as fast as testing each element.
        self.finite &= score.flatten(1).abs().amax(1).isfinite()
        if self.keep_last:
            self.last = x, t, score
        return score

    def _evaluate(self, x: Tensor, t: Tensor, conditions: Tensor | None) -> Tensor:
        """Evaluate the network once, and check its output; the score in the dtype of x."""
        given = () if conditions is None else (conditions,)
        score = self._model.score(x.to(self._model.dtype), t, *given)
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
        return score.to(x.dtype)

    def _guide(self, score: Tensor, x: Tensor, t: Tensor, conditions: Tensor) -> Tensor:
        """Evaluate the rows with guidance without their condition too; the guided score."""
        guidance = self._model.guidance
        assert guidance is not None
        rows = guidance.rows(self._model.sde, t)
        if not len(rows):
            return score
        padding = rows[:1].expand(self._rows_for(len(rows)) - len(rows))
        padded = torch.cat([rows, padding])
        without = self._evaluate(x[padded], t[padded], self._no_conditions(conditions[padded]))
        self.nfe[rows.cpu()] += 1
        return score.index_copy(0, rows, guidance.apply(score[rows], without[: len(rows)]))

    def _no_conditions(self, conditions: Tensor) -> Tensor:
        """The null condition in the shape and dtype of conditions (B, ...).

        Raises:
            UsageError: It has another shape than a condition.
        """
        null = torch.as_tensor(self._model.null_condition, device=conditions.device)
        try:
            return null.to(conditions.dtype).expand_as(conditions)
        except RuntimeError as error:
            raise UsageError(
                f"the null condition of {self._model.name} has shape {tuple(null.shape)},"
                f" a condition has shape {tuple(conditions.shape[1:])}"
            ) from error

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
