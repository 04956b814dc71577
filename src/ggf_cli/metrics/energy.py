"""The energy distance between two sets of points (Székely and Rizzo 2013, J. Stat. Plan. Inf. 143).

    E = 2 mean over i, j of |x_i - y_j|
        - mean over i != j of |x_i - x_j| - mean over i != j of |y_i - y_j|

This is the unbiased estimate: its expectation does not depend on the number of samples and is 0
only for equal distributions, so values may be negative.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ggf_cli.metrics.checks import check_finite

# Distances that are computed at a time.
BLOCK = 2**22


def energy_distance(x: Tensor, y: Tensor) -> float:
    """Energy distance of points x (N, D) and y (M, D), N, M >= 2, in units of x.

    Raises:
        UsageError: A point is not finite.
    """
    check_finite(x)
    check_finite(y)
    x, y = x.flatten(1).double(), y.flatten(1).double()
    n, m = len(x), len(y)
    within = _sum(x, x) / (n * (n - 1)) + _sum(y, y) / (m * (m - 1))
    return 2 * _sum(x, y) / (n * m) - within


def _sum(x: Tensor, y: Tensor) -> float:
    """The sum of the Euclidean distances of all pairs of rows."""
    rows = max(1, BLOCK // len(y))
    # Not by matrix products, which round small distances.
    exact = "donot_use_mm_for_euclid_dist"
    return sum(
        float(torch.cdist(part, y, compute_mode=exact).sum()) for part in torch.split(x, rows)
    )
