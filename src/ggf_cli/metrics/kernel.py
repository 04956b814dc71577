"""KID: the kernel distance between two sets of features (Binkowski et al. 2018, arXiv:1801.01401).

    k(a, b) = (a . b / D + 1)^3
    KID     = mean over i != j of k(x_i, x_j)
              + mean over i != j of k(y_i, y_j)
              - 2 mean over i, j of k(x_i, y_j)

This is the unbiased estimate of the squared maximum mean discrepancy: its expectation does not
depend on the number of samples and is 0 for equal distributions, so values may be negative.
"""

from __future__ import annotations

import torch
from torch import Tensor

# Binkowski et al., section 4.
SUBSETS, SUBSET_SIZE = 100, 1000


def kid(x: Tensor, y: Tensor, *, seed: int = 0) -> float:
    """KID of features x (N, D) and y (M, D), N, M >= 2, unitless.

    Sets of up to `SUBSET_SIZE` are compared as a whole. For larger sets the value is the mean over
    `SUBSETS` random subsets, as published; they are the same in every call with the same N, M and
    seed.
    """
    x, y = x.double(), y.double()
    if max(len(x), len(y)) <= SUBSET_SIZE:
        return _mmd2(x, y)
    generator = torch.Generator().manual_seed(seed)
    values = [_mmd2(_subset(x, generator), _subset(y, generator)) for _ in range(SUBSETS)]
    return sum(values) / SUBSETS


def _subset(x: Tensor, generator: torch.Generator) -> Tensor:
    """Up to SUBSET_SIZE random rows."""
    return x[torch.randperm(len(x), generator=generator)[:SUBSET_SIZE]]


def _mmd2(x: Tensor, y: Tensor) -> float:
    """Unbiased estimate of the squared maximum mean discrepancy."""
    return float(_mean_between(x) + _mean_between(y) - 2 * _kernel(x, y).mean())


def _mean_between(x: Tensor) -> Tensor:
    """Mean of k over the pairs of different rows of x (N, D)."""
    k = _kernel(x, x)
    return (k.sum() - k.diagonal().sum()) / (len(x) * (len(x) - 1))


def _kernel(x: Tensor, y: Tensor) -> Tensor:
    """k of all pairs of rows of x (N, D) and y (M, D), (N, M)."""
    return (x @ y.T / x.shape[1] + 1) ** 3
