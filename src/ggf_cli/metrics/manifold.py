"""Precision, recall and coverage: fidelity and diversity of samples as separate numbers.

The region of a set of features is the union of balls around its points; the radius of a ball is the
distance of the point to its k-th nearest neighbour in the set. Precision is the share of the drawn
samples in the region of the real ones, recall the reverse: sharp samples of few kinds have a high
precision and a low recall. All values are in [0, 1], higher is better. They depend on the sizes of
the sets: compare them at equal sizes, and with the floor.

References: Kynkäänniemi et al. 2019, arXiv:1904.06991 (precision, recall); Naeem et al. 2020,
arXiv:2002.09797 (coverage).
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

# Kynkäänniemi et al.
K = 3
# Naeem et al.
K_COVERAGE = 5
# Rows of the distance matrix that are computed at a time.
ROWS = 1000


def precision(x: Tensor, y: Tensor, *, k: int = K) -> float:
    """Share of drawn features x (N, D) in the region of real features y (M, D), M > k."""
    radii = _radii(y, k)
    inside = [(distances <= radii).any(1) for distances in _distances(x, y)]
    return float(torch.cat(inside).double().mean())


def recall(x: Tensor, y: Tensor, *, k: int = K) -> float:
    """Share of real features y (M, D) in the region of drawn features x (N, D), N > k."""
    return precision(y, x, k=k)


def coverage(x: Tensor, y: Tensor, *, k: int = K_COVERAGE) -> float:
    """Share of real features y (M, D), M > k, whose own ball has a drawn feature of x (N, D) in it.

    Unlike recall, an outlier among the drawn features does not make it large.
    """
    nearest = torch.cat([distances.amin(1) for distances in _distances(y, x)])
    return float((nearest <= _radii(y, k)).double().mean())


def _radii(x: Tensor, k: int) -> Tensor:
    """Distance of each row of x (N, D) to its k-th nearest other row, (N,)."""
    # k + 1: the nearest row to each row is the row itself.
    return torch.cat([distances.kthvalue(k + 1).values for distances in _distances(x, x)])


def _distances(x: Tensor, y: Tensor) -> Iterator[Tensor]:
    """Yield the Euclidean distances of x (N, D) and y (M, D) in blocks of rows (<= ROWS, M)."""
    x, y = x.double(), y.double()
    for part in torch.split(x, ROWS):
        yield torch.cdist(part, y)
