"""Normal numbers from random words (Box–Muller).

The arithmetic rounds as IEEE 754 requires; the polynomials approximate log, sin and cos.
"""

import math

import mpmath
import numpy as np
import pytest
import torch

from ggf_cli.noise import box_muller
from ggf_cli.noise.box_muller import COS, LOG, MINUS_2_LOG_2, SIN

SMALL = torch.arange(2**20)
SPREAD = torch.arange(0, 2**32, 2**12 - 3)
LARGE = 2**32 - 1 - SMALL
EVERYWHERE = torch.cat([SMALL, SPREAD, LARGE])


def exact_radius(words):
    return torch.sqrt(-2 * torch.log((words.double() + 0.5) * 2.0**-32))


def mantissas():
    """Every float32 in [1, 4)."""
    return torch.arange(0x3F800000, 0x40800000, dtype=torch.int32).view(torch.float32)


# --- assumptions about the arithmetic -------------------------------------------------------------
# float64 has more than twice the digits of float32. So a float64 result, rounded to float32, is the
# correctly rounded result.


def test_square_roots_round_to_the_nearest_number():
    x = mantissas()
    exact = torch.from_numpy(np.sqrt(x.numpy().astype(np.float64))).float()
    assert torch.equal(box_muller.square_root(x), exact)
    # In another library the last digit may differ.
    perturbed = x.double().sqrt() * (1 + 2.0**-52)
    assert torch.equal(perturbed.float(), exact)
    assert float(box_muller.square_root(torch.zeros(1))) == 0


@pytest.mark.parametrize("operation", [torch.add, torch.sub, torch.mul, torch.div])
@pytest.mark.parametrize("rows", [1, 3, 4096])
def test_arithmetic_rounds_to_the_nearest_number(operation, rows):
    generator = torch.Generator().manual_seed(rows)
    a = torch.rand(rows, 515, generator=generator) + 0.5
    b = (torch.rand(rows, 515, generator=generator) + 0.5) * 2.0 ** (torch.arange(515) % 30 - 15)
    assert torch.equal(operation(a, b), operation(a.double(), b.double()).float())
    number = float(b[0, 0])
    if operation is not torch.div:
        assert torch.equal(operation(a, number), operation(a.double(), number).float())


def test_words_round_to_the_nearest_number():
    words = EVERYWHERE
    assert torch.equal(words.float(), torch.from_numpy(words.numpy().astype(np.float32)))


def test_a_product_and_a_sum_are_not_fused():
    """For half of these numbers, a fused operation, rounded once, would give another result."""
    x = mantissas()[::37]
    product = (x.double() * x.double()).float()
    once = (x.double() * x.double() - product.double()).float()
    assert int((once != 0).sum()) > len(x) / 2
    assert torch.equal(x.mul(x).sub(product), torch.zeros_like(x))


# --- accuracy of the results ----------------------------------------------------------------------


def test_the_radius_is_right_for_small_large_and_other_words():
    exact, found = exact_radius(EVERYWHERE), box_muller.radius(EVERYWHERE[None])[0].double()
    # u_1 has the resolution of float32, 2^-25 near 1. There the radius is small, and a small change
    # of u_1 is a large relative change of the radius.
    assert bool(((found - exact).abs() <= 6e-7 + 2.0**-24 / exact).all())
    assert float(found[0]) == pytest.approx(math.sqrt(66 * math.log(2)), rel=1e-6)


def test_the_right_number_of_words_lies_in_the_tails():
    """Count the words whose radius is larger than r: their share is exp(-r^2 / 2)."""
    found = box_muller.radius(SMALL[None])[0]
    for edge in (6.0, 6.3, 6.6):
        expected = 2**32 * math.exp(-(edge**2) / 2)
        assert int((found > edge).sum()) == round(expected)
    assert bool((found[1:] <= found[:-1]).all())


def test_sine_and_cosine_are_right_at_every_angle():
    exact = EVERYWHERE.double() * (2 * math.pi * 2.0**-32)
    cos, sin = box_muller.cos_sin(EVERYWHERE[None])
    assert float((cos[0].double() - exact.cos()).abs().max()) < 1e-6
    assert float((sin[0].double() - exact.sin()).abs().max()) < 1e-6


def test_normal_numbers_equal_the_exact_formula():
    words = EVERYWHERE[torch.randperm(len(EVERYWHERE), generator=torch.Generator().manual_seed(0))]
    words = words[: len(words) // 2 * 2].reshape(1, -1)
    z = box_muller.standard_normal(words)[0].double()
    r = exact_radius(words[0, : len(z) // 2])
    angle = words[0, len(z) // 2 :].double() * (2 * math.pi * 2.0**-32)
    exact = torch.cat([r * angle.cos(), r * angle.sin()])
    assert float((z - exact).abs()[torch.cat([r, r]) > 0.01].max()) < 5e-6


@pytest.mark.parametrize(
    ("coefficients", "function", "end"),
    [
        (
            LOG,
            lambda q: -4 * (mpmath.atanh(mpmath.sqrt(q)) / mpmath.sqrt(q)),
            (mpmath.sqrt(2) - 1) ** 4,
        ),
        (
            SIN,
            lambda s: -2 * (mpmath.sin(mpmath.pi * mpmath.sqrt(s)) / mpmath.sqrt(s)),
            mpmath.mpf(1) / 4,
        ),
        (COS, lambda s: mpmath.cos(mpmath.pi * mpmath.sqrt(s)), mpmath.mpf(1) / 4),
    ],
    ids=["log", "sin", "cos"],
)
def test_coefficients_are_those_of_the_interpolating_polynomial(coefficients, function, end):
    """Interpolate at the Chebyshev points of [0, end] with 40 digits; round to float32."""
    n = len(coefficients)
    with mpmath.workdps(40):
        points = [end / 2 * (1 + mpmath.cos(mpmath.pi * (2 * i + 1) / (2 * n))) for i in range(n)]
        powers = mpmath.matrix([[x**j for j in range(n)] for x in points])
        solved = mpmath.lu_solve(powers, mpmath.matrix([function(x) for x in points]))
    assert [float(np.float32(float(c))) for c in solved] == list(coefficients)


def test_every_constant_is_a_float32():
    for constant in (*LOG, *SIN, *COS, MINUS_2_LOG_2):
        assert float(np.float32(constant)) == constant
    assert float(np.float32(-2 * math.log(2))) == MINUS_2_LOG_2
