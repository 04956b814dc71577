"""The score of the noisy data, behind one signature, and the one place where evaluations are counted.

    score(x, t) = grad_x log p_t(x)            x (B, *), t (B,) -> (B, *), every row with its own t

A network rarely returns the score itself; a parametrisation says how its output becomes one. Solvers see
`score(x, t)` only: they never learn what network, if any, is behind it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ggf_cli.errors import UsageError
from ggf_cli.sde import SDE, expand_as_batch

ScoreFunction = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True, kw_only=True)
class ScoreModel:
    """A score with all that is needed to sample from it.

    Args:
        score: x (B, *shape), t (B,) -> (B, *shape), on `device`. t is float64 (float32 on mps): cast it
            as your network needs. Each row must depend on its own x and t alone.
        sde: The forward SDE that the score belongs to.
        shape: Shape of one sample, (C, H, W) for images.
        name: How messages and logs call the model.
        device: Where `score` expects its inputs.
        dtype: The dtype of x.
        provenance: JSON data for the run log: source, sha256, parameters, licence.
    """

    score: ScoreFunction
    sde: SDE
    shape: tuple[int, ...]
    name: str = "custom"
    device: torch.device | str = "cpu"
    dtype: torch.dtype = torch.float32
    provenance: dict[str, Any] | None = None


def vp_continuous(network: Callable[..., Tensor], sde: SDE) -> ScoreFunction:
    """-network(x, 999 t) / sigma(t): noise prediction with a continuous label (VP, sub-VP).

    Reference: Song et al. 2021, arXiv:2011.13456, the `continuous` models of their code.
    """

    def score(x: Tensor, t: Tensor) -> Tensor:
        return -network(x, 999.0 * t) / expand_as_batch(sde.sigma(t), x)

    return score


def ve_continuous(network: Callable[..., Tensor], sde: SDE) -> ScoreFunction:
    """network(x, sigma(t)): NCSN++, which divides by sigma itself and so returns the score (VE)."""

    def score(x: Tensor, t: Tensor) -> Tensor:
        return network(x, sde.sigma(t))

    return score


def exact(network: Callable[..., Tensor], sde: SDE) -> ScoreFunction:
    """network(x, alpha(t), sigma(t)): a distribution that knows its own score at every noise level."""

    def score(x: Tensor, t: Tensor) -> Tensor:
        return network(x, sde.alpha(t), sde.sigma(t))

    return score


PARAMETRIZATIONS: dict[str, Callable[[Callable[..., Tensor], SDE], ScoreFunction]] = {
    "vp-continuous": vp_continuous,
    "ve-continuous": ve_continuous,
    "exact": exact,
}


class CountedScore:
    """A score that counts its evaluations and remembers which rows it answered with NaN or infinity.

    Attributes:
        calls: Network calls so far.
        rows_evaluated: Rows over all calls: what the hardware worked for.
        nfe: Evaluations of the sample that now sits in each slot, (B,) int64 on the host.
        finite: (B,) bool on the device; False once a row's score was not finite.
    """

    def __init__(self, score: ScoreFunction) -> None:
        self._score = score
        self.calls = 0
        self.rows_evaluated = 0
        self.nfe = torch.zeros(0, dtype=torch.int64)
        self.finite = torch.zeros(0, dtype=torch.bool)

    def __call__(self, x: Tensor, t: Tensor) -> Tensor:
        score = self._score(x, t)
        if score.shape != x.shape:
            raise UsageError(
                f"the score of a batch of shape {tuple(x.shape)} has shape {tuple(score.shape)}",
                hint="a score has the shape of x",
            )
        self.calls += 1
        self.rows_evaluated += len(x)
        self.nfe += 1
        self.finite &= torch.isfinite(score).flatten(1).all(1)
        return score.to(x.dtype)

    def open_slots(self, slots: int, device: torch.device) -> None:
        """Start with `slots` fresh rows."""
        self.nfe = torch.zeros(slots, dtype=torch.int64)
        self.finite = torch.ones(slots, dtype=torch.bool, device=device)

    def reset_slots(self, slots: Tensor) -> None:
        """Forget the samples that left the given slots, (k,) int64 on the host."""
        self.nfe[slots] = 0
        self.finite[slots.to(self.finite.device)] = True

    def keep_slots(self, slots: Tensor) -> None:
        """Drop all but the given slots, (k,) int64 on the host."""
        self.nfe = self.nfe[slots]
        self.finite = self.finite[slots.to(self.finite.device)]
