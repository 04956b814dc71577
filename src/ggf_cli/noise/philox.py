"""Philox4x32-10: random 32-bit words as a function of a key and a counter, in integer arithmetic.

Reference: Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3".
"""

from __future__ import annotations

import torch
from torch import Tensor

_WORD = 0xFFFFFFFF
_MULTIPLIERS = 0xD2511F53, 0xCD9E8D57
_WEYL = 0x9E3779B9, 0xBB67AE85


def random_words(seed: int, index: Tensor, draw: Tensor, blocks: int) -> Tensor:
    """Random words of the counters (element, draw[b], index[b]) under a seed, element < blocks.

    Args:
        seed: 0 <= seed < 2^63.
        index: (B,) int64, >= 0.
        draw: (B,) int64, in [0, 2^32).
        blocks: Number of counters a row; each gives four words.

    Returns:
        (B, 4 * blocks) int64, each in [0, 2^32).
    """
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
        # The products wrap around int64, which gives the same 64 bits as unsigned arithmetic. The
        # next round uses the low 32 bits only and masks the others.
        p0, p1 = c0 * m0, c2 * m1
        c0 = (p1 >> 32).bitwise_xor_(c1).bitwise_xor_(k0).bitwise_and_(_WORD)
        c2 = (p0 >> 32).bitwise_xor_(c3).bitwise_xor_(k1).bitwise_and_(_WORD)
        c1, c3 = p1, p0
        k0, k1 = (k0 + _WEYL[0]) & _WORD, (k1 + _WEYL[1]) & _WORD
    return c0, c1.bitwise_and_(_WORD), c2, c3.bitwise_and_(_WORD)
