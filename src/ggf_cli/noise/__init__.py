"""One noise stream a sample: the same sample for any batch size, order, subset or interruption, on any machine.

Block d of sample i under seed s is a pure function of (s, i, d), computed by the counter-based generator
Philox4x32-10 with key s and counter (element, d, i). There is no state to save and nothing to seek. The blocks of
different samples cannot overlap, because the counters differ.

Philox is integer arithmetic, and the step from its words to normal numbers uses only operations that IEEE 754 rounds exactly
(`box_muller`). So the numbers are the same to the bit on every CPU and CUDA GPU.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ggf_cli.noise.box_muller import standard_normal
from ggf_cli.noise.philox import random_words

# The name of the numbers, for the run log; it changes whenever one of them does. Version 1 took log, sin and cos from the
# maths library: the same numbers up to 5e-5, most up to 1e-6.
STREAM = "philox4x32-10, box-muller 2"

# Where division, square root and conversions are known to round as IEEE 754 says; elsewhere the CPU draws.
_EXACT_DEVICES = ("cpu", "cuda")


@dataclass(frozen=True, kw_only=True)
class Noise:
    """Standard normal noise for the samples of one seed.

    Args:
        seed: 0 <= seed < 2^63.
        shape: Shape of one sample; at most 2^34 elements.
        dtype: The dtype of the noise. The draws are float32 and then converted: float64 noise is no finer, and a sample has
            the same noise in both.
    """

    seed: int
    shape: tuple[int, ...]
    dtype: torch.dtype = torch.float32

    def __call__(self, index: Tensor, draw: Tensor) -> Tensor:
        """Block draw[b] of sample index[b], for each row: (B,) and (B,) int64 -> (B, *shape)."""
        size, device = math.prod(self.shape), index.device
        if device.type not in _EXACT_DEVICES:
            index, draw = index.cpu(), draw.cpu()
        z = standard_normal(random_words(self.seed, index, draw, -(-size // 4)))
        return z[:, :size].reshape(-1, *self.shape).to(self.dtype).to(device)
