"""One noise stream a sample: the same sample for any batch size, order, subset or interruption.

Block d of sample i under seed s is a pure function of (s, i, d), computed by the counter-based generator
Philox4x32-10 with key s and counter (element, d, i). There is no state to save, nothing to seek, and the
integers are the same on every device. The blocks of different samples cannot overlap, because the counters
differ.

Uniforms become normals by Box–Muller. log, sqrt, sin and cos are, on CPU, functions of their argument alone
in torch's kernels; pow and sigmoid are not (a vector body and a scalar tail round differently), so nothing
here or in a solver may use those on a quantity of a row.

Reference: Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3".
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

_WORD = 0xFFFFFFFF
_MULTIPLIERS = 0xD2511F53, 0xCD9E8D57
_WEYL = 0x9E3779B9, 0xBB67AE85


@dataclass(frozen=True, kw_only=True)
class Noise:
    """Standard normal noise for the samples of one seed.

    Args:
        seed: 0 <= seed < 2^63.
        shape: Shape of one sample; at most 2^34 elements.
        dtype: The dtype of the noise; the draws themselves have float32 resolution.
    """

    seed: int
    shape: tuple[int, ...]
    dtype: torch.dtype = torch.float32

    def __call__(self, index: Tensor, draw: Tensor) -> Tensor:
        """Block draw[b] of sample index[b], for each row: (B,) and (B,) int64 -> (B, *shape)."""
        size = math.prod(self.shape)
        words = _words(self.seed, index, draw, -(-size // 4))
        return _box_muller(words)[:, :size].reshape(-1, *self.shape).to(self.dtype)


def _words(seed: int, index: Tensor, draw: Tensor, blocks: int) -> Tensor:
    """Random 32-bit words, (B, 4 * blocks) int64."""
    rows = len(index)
    element = torch.arange(blocks, device=index.device).expand(rows, blocks)
    high, low = (index >> 32)[:, None], (index & _WORD)[:, None]
    return torch.cat(
        philox4x32(element, draw[:, None], low, high, key=(seed & _WORD, seed >> 32)), dim=1
    )


def philox4x32(
    c0: Tensor, c1: Tensor, c2: Tensor, c3: Tensor, *, key: tuple[int, int]
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Ten rounds of Philox4x32 on broadcastable int64 tensors that hold 32-bit words."""
    k0, k1 = key
    m0, m1 = _MULTIPLIERS
    c0, c1, c2, c3 = torch.broadcast_tensors(c0, c1, c2, c3)  # type: ignore[no-untyped-call]
    for _ in range(10):
        # The products wrap around int64, which leaves all 64 bits as unsigned arithmetic has them. The words that go on
        # are their low 32 bits: what stands above is masked away in the next round.
        p0, p1 = c0 * m0, c2 * m1
        c0 = (p1 >> 32).bitwise_xor_(c1).bitwise_xor_(k0).bitwise_and_(_WORD)
        c2 = (p0 >> 32).bitwise_xor_(c3).bitwise_xor_(k1).bitwise_and_(_WORD)
        c1, c3 = p1, p0
        k0, k1 = (k0 + _WEYL[0]) & _WORD, (k1 + _WEYL[1]) & _WORD
    return c0, c1.bitwise_and_(_WORD), c2, c3.bitwise_and_(_WORD)


def _box_muller(words: Tensor) -> Tensor:
    """(B, 2n) 32-bit words -> (B, 2n) standard normals, |z| < 6.8."""
    half = words.shape[1] // 2
    # The offset keeps the logarithm's argument in (0, 1]: float32 rounds the largest words up to 1.
    radius = torch.sqrt(-2 * torch.log((words[:, :half].float() + 0.5) * 2.0**-32))
    angle = words[:, half:].float() * (2 * math.pi * 2.0**-32)
    return torch.cat([radius * torch.cos(angle), radius * torch.sin(angle)], dim=1)
