"""Fidelity and diversity apart: how far the regions that drawn and real features lie in overlap.

The region of a set is the union of balls around its points, each reaching to the point's k-th nearest neighbour in the set.
One region inside the other, the two numbers differ: samples without noise but of few kinds have precision and no recall. All
are shares in [0, 1], higher is better, and depend on the sizes of the sets: compare them at equal sizes, and with the floor.

References: Kynkäänniemi et al. 2019, arXiv:1904.06991 (precision, recall); Naeem et al. 2020, arXiv:2002.09797 (coverage).
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

K = 3  # Kynkäänniemi et al.
K_COVERAGE = 5  # Naeem et al.
ROWS = 1000  # of distances at a time


def precision(x: Tensor, y: Tensor, *, k: int = K) -> float:
    """Share of the drawn features x (N, D) inside the region of the real ones y (M, D), M > k."""
    radii = _radii(y, k)
    inside = [(distances <= radii).any(1) for distances in _distances(x, y)]
    return float(torch.cat(inside).double().mean())


def recall(x: Tensor, y: Tensor, *, k: int = K) -> float:
    """Share of the real features y (M, D) inside the region of the drawn ones x (N, D), N > k."""
    return precision(y, x, k=k)


def coverage(x: Tensor, y: Tensor, *, k: int = K_COVERAGE) -> float:
    """Share of the real features y (M, D), M > k, whose own ball has a drawn one of x (N, D) inside.

    Unlike recall, no outlier among the drawn features makes it large.
    """
    nearest = torch.cat([distances.amin(1) for distances in _distances(y, x)])
    return float((nearest <= _radii(y, k)).double().mean())


def _radii(x: Tensor, k: int) -> Tensor:
    """Distance of each row to its k-th nearest neighbour among the others, (N,)."""
    # The nearest row to each is itself.
    return torch.cat([distances.kthvalue(k + 1).values for distances in _distances(x, x)])


def _distances(x: Tensor, y: Tensor) -> Iterator[Tensor]:
    """Euclidean distances of all rows of x (N, D) to those of y (M, D), in blocks of rows (<= ROWS, M)."""
    x, y = x.double(), y.double()
    for part in torch.split(x, ROWS):
        yield torch.cdist(part, y)
