"""Standard normal numbers from random 32-bit words, the same to the bit on every CPU and CUDA GPU.

    u_1 = (word_1 + 1/2) / 2^32,  u_2 = word_2 / 2^32                          in (0, 1] and [0, 1)
    z_1 = sqrt(-2 log u_1) cos(2 pi u_2),  z_2 = sqrt(-2 log u_1) sin(2 pi u_2)

The log, sin and cos of a maths library differ in their last bit between processors. So this module
uses polynomials, evaluated in float32 by operations whose rounding IEEE 754 defines: add, subtract,
multiply, divide, conversion, and operations on integers. Each operation is one torch call, because
a compiler may fuse a product and a sum inside one kernel and round once instead of twice. For the
same reason the module uses no `addcmul`, no `lerp`, no `torch.compile`, and no division by a Python
number, which CUDA replaces by a product with the reciprocal. torch's square root of float32 is not
always the nearest number (on a Xeon with AVX-512 it differs for 0.6 % of all numbers), see
`square_root`. No value is subnormal, so flushing subnormal numbers to zero changes nothing.

Accuracy: |z - exact| < 4e-6 where the radius sqrt(-2 log u_1) is at least 0.01
(tests/core/test_box_muller.py); |z| < 6.77.

Reference: Box and Muller 1958, Ann. Math. Statist. 29(2). The coefficients are those of polynomials
that interpolate at Chebyshev points, rounded to float32; the same test derives them.
"""

from __future__ import annotations

import torch
from torch import Tensor

# -2 log(m) = s (L_0 + L_1 s^2 + L_2 s^4 + L_3 s^6), s = (m - 1) / (m + 1), sqrt(1/2) <= m < sqrt(2)
LOG = (-4.0, -1.333336353302002, -0.7994970083236694, -0.5984877943992615)
# -2 sin(pi v) = v (S_0 + S_1 v^2 + ...), |v| <= 1/2
SIN = (
    -6.2831854820251465,
    10.33542537689209,
    -5.1003265380859375,
    1.1985043287277222,
    -0.16410070657730103,
    0.014056608080863953,
)
# cos(pi v) = C_0 + C_1 v^2 + ..., |v| <= 1/2
COS = (
    1.0,
    -4.934802055358887,
    4.058709144592285,
    -1.335211992263794,
    0.23493707180023193,
    -0.024395931512117386,
)
MINUS_2_LOG_2 = -1.3862943649291992

# sqrt(1/2) as float32.
_SQRT_HALF_BITS = 0x3F3504F3
_EXPONENT_SHIFT = 23


def standard_normal(words: Tensor) -> Tensor:
    """Standard normal numbers (B, 2n), float32, from random words (B, 2n), int64 in [0, 2^32)."""
    half = words.shape[1] // 2
    r = radius(words[:, :half])
    cos, sin = cos_sin(words[:, half:])
    return torch.cat([cos.mul_(r), sin.mul_(r)], dim=1)


def radius(words: Tensor) -> Tensor:
    """sqrt(-2 log((word + 1/2) / 2^32)) of int64 words, float32.

    It is 0 if (word + 1/2) / 2^32 rounds to 1.
    """
    # word + 1/2 = m 2^e with m in [sqrt(1/2), sqrt(2)); m and e are taken from the bits of the
    # float32.
    x = words.float().add_(0.5)
    bits = x.view(torch.int32)
    e = bits.sub(_SQRT_HALF_BITS).bitwise_right_shift_(_EXPONENT_SHIFT)
    m = bits.sub_(e.bitwise_left_shift(_EXPONENT_SHIFT)).view(torch.float32)
    above, s = m.add(1.0), m.sub_(1.0)
    s.div_(above)
    minus_2_log = _polynomial(LOG, torch.mul(s, s, out=above)).mul_(s)
    return square_root(minus_2_log.add_(e.sub_(32).float().mul_(MINUS_2_LOG_2)))


def square_root(x: Tensor) -> Tensor:
    """The float32 nearest to the square root of x, float32, >= 0."""
    # Through float64, where the root may be wrong in its last bits. The root of a 24-bit number is
    # never nearer than 2^-50 (relative) to the middle between two float32 numbers, so an error of
    # 2^-52 does not change the rounding.
    return x.double().sqrt_().float()


def cos_sin(words: Tensor) -> tuple[Tensor, Tensor]:
    """cos and sin of 2 pi word / 2^32, of int64 words, float32."""
    # With half the angle, v = word / 2^32 - 1/2:
    # cos(2 pi v + pi) = 2 sin(pi v)^2 - 1 and sin(2 pi v + pi) = -2 sin(pi v) cos(pi v).
    v = words.sub(2**31).float().mul_(2.0**-32)
    v_squared = v.mul(v)
    minus_2_sin = _polynomial(SIN, v_squared).mul_(v)
    sin = _polynomial(COS, v_squared).mul_(minus_2_sin)
    cos = minus_2_sin.mul_(minus_2_sin).mul_(0.5).sub_(1.0)
    return cos, sin


def _polynomial(coefficients: tuple[float, ...], x: Tensor) -> Tensor:
    """c_0 + c_1 x + c_2 x^2 + ... by Horner's rule, each operation rounded."""
    *rest, last = coefficients
    value = x.mul(last)
    for c in rest[:0:-1]:
        value.add_(c).mul_(x)
    return value.add_(rest[0])
