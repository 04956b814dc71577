"""Noise: one random stream for each sample, the same on every machine.

A sample has the same noise for any batch size, order, subset and interruption.

Block d of sample i under seed s is a function of (s, i, d), computed by the counter-based generator
Philox4x32-10 with key s and counter (element, d, i). There is no state to save. The blocks of
different samples do not overlap, because their counters differ.

Philox uses integer arithmetic, and the conversion of its words to normal numbers uses only
operations whose rounding IEEE 754 defines (`box_muller`). So the noise is the same to the bit on
every CPU and CUDA GPU.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ggf_cli.noise.box_muller import standard_normal
from ggf_cli.noise.philox import random_words

# The name of the stream, for the run log; it changes whenever a number of the stream does. Version
# 1 used log, sin and cos of the maths library: its numbers differ by at most 5e-5, most by at most
# 1e-6.
STREAM = "philox4x32-10, box-muller 2"

# Devices whose division, square root and conversions round as IEEE 754 defines; for others the CPU
# draws the noise.
EXACT_DEVICES = ("cpu", "cuda")


@dataclass(frozen=True, kw_only=True)
class Noise:
    """Standard normal noise for the samples of one seed.

    Args:
        seed: 0 <= seed < 2^63.
        shape: Shape of one sample; at most 2^34 elements.
        dtype: The dtype of the noise. The numbers are drawn in float32 and then converted, so a
            sample has the same noise in float32 and float64.
    """

    seed: int
    shape: tuple[int, ...]
    dtype: torch.dtype = torch.float32

    def __call__(self, index: Tensor, draw: Tensor) -> Tensor:
        """Block draw[b] of sample index[b], for each row: (B,) and (B,) int64 -> (B, *shape)."""
        size, device = math.prod(self.shape), index.device
        if device.type not in EXACT_DEVICES:
            index, draw = index.cpu(), draw.cpu()
        z = standard_normal(random_words(self.seed, index, draw, -(-size // 4)))
        return z[:, :size].reshape(-1, *self.shape).to(self.dtype).to(device)
