"""Mean over the numbers of each row, added up in an order that depends on their count alone.

torch's own sums add in an order that depends on the number of threads and on the number of rows: a row alone is divided among
the threads. The last bits of an error estimate then decide differently whether a step is accepted, and a sample is another one in
another batch. Here the second half of a row is added to its first half, until one number is left. Each addition is
elementwise, so its rounding depends on the two numbers alone, on every device.
"""

from __future__ import annotations

import torch
from torch import Tensor


def row_mean(x: Tensor) -> Tensor:
    """Mean of each row, (B, *) -> (B,), in the dtype of x but at least float32."""
    x = x.flatten(1).to(torch.promote_types(x.dtype, torch.float32))
    share = 1 / x.shape[1]
    while (width := x.shape[1]) > 1:
        half = width // 2
        folded = x[:, :half] + x[:, half : 2 * half]
        if width % 2:
            folded[:, 0] += x[:, -1]
        x = folded
    # times, not divided by: CUDA replaces a division by a Python number by that product
    return x[:, 0] * share


def mean_square(x: Tensor) -> Tensor:
    """Mean of the squares of each row, (B, *) -> (B,), in the dtype of x but at least float32."""
    return row_mean(x.to(torch.promote_types(x.dtype, torch.float32)).square())


def root_mean_square(x: Tensor) -> Tensor:
    """Root mean square of each row, (B, *) -> (B,), in the dtype of x but at least float32."""
    return mean_square(x).sqrt()
