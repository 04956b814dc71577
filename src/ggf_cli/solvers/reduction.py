"""Mean over each row, with an order of additions that depends on the row length only.

The order of additions in torch's sums depends on the number of threads and of rows: a single row is
divided among the threads. Then the last bits of an error estimate, and so the acceptance of a step,
would depend on the batch. Here the second half of a row is added to its first half, until one
number is left. Each addition is elementwise, so its rounding depends on the two numbers only, on
every device.
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
    # Multiplied, because CUDA replaces a division by a Python number by this product.
    return x[:, 0] * share


def mean_square(x: Tensor) -> Tensor:
    """Mean of the squares of each row, (B, *) -> (B,), in the dtype of x but at least float32."""
    return row_mean(x.to(torch.promote_types(x.dtype, torch.float32)).square())


def root_mean_square(x: Tensor) -> Tensor:
    """Root mean square of each row, (B, *) -> (B,), in the dtype of x but at least float32."""
    return mean_square(x).sqrt()
