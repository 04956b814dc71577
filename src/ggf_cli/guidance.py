"""Classifier-free guidance: extrapolate from the score without a condition to that with it.

    score = score(x, t, null) + scale [score(x, t, condition) - score(x, t, null)]

Scale 1 is the conditional score. Within an interval of noise levels a row takes two evaluations,
outside of it one, the conditional score.

Reference: Ho and Salimans 2022, arXiv:2207.12598, whose w is scale - 1; Kynkäänniemi et al. 2024,
arXiv:2404.07724 (the interval).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ggf_cli.errors import UsageError
from ggf_cli.scalars import as_float, items, shown
from ggf_cli.sde import SDE


@dataclass(frozen=True, kw_only=True)
class Guidance:
    """The strength of guidance, and where it acts.

    Args:
        scale: The factor of the difference of the two scores, above 0; 1 has no effect.
        interval: The smallest and the largest noise level sigma / alpha with guidance,
            0 <= low < high; None: all.

    Raises:
        UsageError: A value is out of range.
    """

    scale: float
    interval: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "scale", as_float(self.scale, "`guidance`", above=0))
        if self.interval is not None:
            object.__setattr__(self, "interval", _as_interval(self.interval))

    def rows(self, sde: SDE, t: Tensor) -> Tensor:
        """The places (k,) int64 of the rows with guidance among rows at the times t (B,)."""
        if self.interval is None:
            return torch.arange(len(t), device=t.device)
        low, high = self.interval
        level = torch.exp(-sde.half_log_snr(t))
        return ((level >= low) & (level <= high)).nonzero().flatten()

    def apply(self, score: Tensor, without: Tensor) -> Tensor:
        """The guided score of the scores with and without the condition, both (B, *)."""
        return without + self.scale * (score - without)


def _as_interval(interval: Any) -> tuple[float, float]:
    name = "`guidance_interval`"
    try:
        low, high = (as_float(end, name) for end in items(interval, name))
    except (UsageError, ValueError):
        # ValueError: not two numbers.
        low = high = math.nan
    if not 0 <= low < high:
        raise UsageError(
            f"{name} is {shown(interval)}, it must be (low, high), noise levels sigma / alpha"
            " with 0 <= low < high",
        )
    return low, high


def no_conditions(name: str, *, from_file: bool) -> UsageError:
    """The error for conditions of a model without any.

    Args:
        name: The name of the model.
        from_file: Its network is that of a checkpoint, which the user cannot change.
    """
    if from_file:
        return UsageError(
            f"{name} takes no conditions: it has no class labels",
            hint="sample it without labels and without guidance",
        )
    return UsageError(
        f"{name} takes no conditions",
        hint="in your code, a conditional model has conditional=True and score(x, t, conditions)",
    )


def no_null_condition(name: str, *, from_file: bool) -> UsageError:
    """The error for guidance of a model without a score for no condition.

    Args:
        name: The name of the model.
        from_file: Its network is that of a checkpoint, which the user cannot change.
    """
    if from_file:
        return UsageError(
            f"`guidance` needs the score without a class label, and {name} has none: its network"
            " has no label that stands for no class",
            hint="leave out `guidance`; a network for guidance was trained with such a label",
        )
    return UsageError(
        f"`guidance` needs the null condition of {name}",
        hint="state it in your code, ScoreModel(..., null_condition=LABEL): the label that stands"
        " for no condition",
    )
