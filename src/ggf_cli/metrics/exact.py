"""Distances of samples to a data distribution that is known exactly: what remains is the solver's own error.

Both take samples as the solver left them, in the units of the data and not clamped to an image's range: the distribution is
not clamped either. Both have a floor, what exact samples of the same number get: measure it beside them.
"""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from ggf_cli.errors import UsageError
from ggf_cli.metrics.frechet import frechet_distance, moments

PROJECTIONS = 1000
AT_A_TIME = 50


class Distribution(Protocol):
    """A distribution of samples of D numbers."""

    def sample(self, n: int, generator: torch.Generator | None = None) -> Tensor:
        """Exact samples, (n, *shape)."""

    def moments(self) -> tuple[Tensor, Tensor]:
        """Exact mean (D,) and covariance (D, D)."""


def exact_frechet(x: Tensor, distribution: Distribution) -> float:
    """Fréchet distance of samples (N, *), N >= 2, to the exact mean and covariance, >= 0, in units of x squared.

    Raises:
        UsageError: A sample is not finite.
    """
    _check(x)
    return frechet_distance(*moments(x.flatten(1)), *distribution.moments())


def sliced_wasserstein(x: Tensor, y: Tensor, *, seed: int = 0) -> float:
    """Sliced 2-Wasserstein distance between two sets of as many samples, (N, *) each, >= 0, in units of x.

    The root of the mean, over `PROJECTIONS` random directions, of the squared distance between the sorted
    projections. Sees what the moments do not: components, tails. Reference: Rabin et al. 2011; Bonneel et al. 2015,
    J. Math. Imaging Vis. 51.

    Raises:
        UsageError: The sets differ in size, or a sample is not finite.
    """
    _check(x)
    _check(y)
    x, y = x.flatten(1).double(), y.flatten(1).double()
    if x.shape != y.shape:
        raise UsageError(f"sets of {tuple(x.shape)} and {tuple(y.shape)} cannot be compared")
    generator = torch.Generator().manual_seed(seed)
    directions = torch.randn(x.shape[1], PROJECTIONS, dtype=torch.float64, generator=generator)
    directions /= directions.norm(dim=0)
    squares = [
        ((x @ part).sort(0).values - (y @ part).sort(0).values).square().mean(0)
        for part in torch.split(directions, AT_A_TIME, dim=1)
    ]
    return float(torch.cat(squares).mean().sqrt())


def _check(x: Tensor) -> None:
    bad = int((~torch.isfinite(x)).flatten(1).any(1).sum())
    if bad:
        raise UsageError(
            f"{bad} of {len(x)} samples are not finite", hint="leave out samples that failed"
        )
