"""The sliced Wasserstein distance between two sets of points."""

from __future__ import annotations

import torch
from torch import Tensor

from ggf_cli.errors import UsageError
from ggf_cli.metrics.checks import check_finite

PROJECTIONS = 1000
# Projections that are computed at a time.
BLOCK = 50


def sliced_wasserstein(x: Tensor, y: Tensor, *, seed: int = 0) -> float:
    """Sliced 2-Wasserstein distance, >= 0, in units of x, between two sets of N samples each.

    The root of the mean, over `PROJECTIONS` random directions, of the mean squared difference
    between the sorted projections. It depends on the whole distribution, such as its components and
    tails, not only on the moments. References: Rabin et al. 2011; Bonneel et al. 2015, J. Math.
    Imaging Vis. 51.

    Args:
        x: (N, *).
        y: (N, *).
        seed: Seed of the directions.

    Raises:
        UsageError: The sets differ in shape, or a sample is not finite.
    """
    check_finite(x)
    check_finite(y)
    x, y = x.flatten(1).double(), y.flatten(1).double()
    if x.shape != y.shape:
        raise UsageError(f"sets of shape {tuple(x.shape)} and {tuple(y.shape)} cannot be compared")
    generator = torch.Generator().manual_seed(seed)
    directions = torch.randn(x.shape[1], PROJECTIONS, dtype=torch.float64, generator=generator)
    directions /= directions.norm(dim=0)
    squares = [
        ((x @ part).sort(0).values - (y @ part).sort(0).values).square().mean(0)
        for part in torch.split(directions, BLOCK, dim=1)
    ]
    return float(torch.cat(squares).mean().sqrt())
