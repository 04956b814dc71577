"""Error norm and step-size control of adaptive solvers."""

import math

import pytest
import torch

from ggf_cli.solvers.control import next_step_size, scaled_error


def error(x_low, difference, reference, **options):
    rows = [torch.tensor([v], dtype=torch.float64) for v in (x_low, difference, reference)]
    return float(scaled_error(*rows, **{"eps_abs": 0.01, "eps_rel": 0.1, **options}))


def test_tolerance_is_absolute_for_small_values_and_relative_for_large_ones():
    assert error([0.0, 0.0], [0.01, 0.01], [0.0, 0.0]) == pytest.approx(1)
    assert error([2.0, 2.0], [0.2, 0.2], [0.0, 0.0]) == pytest.approx(1)
    assert error([0.0, 0.0], [0.2, 0.2], [-2.0, 2.0]) == pytest.approx(1)


def test_l2_is_a_root_mean_square_and_linf_a_maximum():
    assert error([0.0] * 4, [0.02, 0.0, 0.0, 0.0], [0.0] * 4) == pytest.approx(1)
    assert error([0.0] * 4, [0.02, 0.0, 0.0, 0.0], [0.0] * 4, norm="linf") == pytest.approx(2)


def test_rows_do_not_affect_each_other():
    x, d, r = torch.randn(3, 5, 2, 3, 3, generator=torch.Generator().manual_seed(0)).double()
    together = scaled_error(x, d, r, eps_abs=0.01, eps_rel=0.1)
    alone = [
        scaled_error(*(v[i : i + 1] for v in (x, d, r)), eps_abs=0.01, eps_rel=0.1)
        for i in range(5)
    ]
    assert torch.equal(together, torch.cat(alone))


def test_proposals_that_are_not_finite_have_no_acceptable_error():
    for bad in (math.nan, math.inf):
        assert not error([bad, 0.0], [bad, 0.0], [0.0, 0.0]) <= 1


@pytest.mark.parametrize(
    ("h", "error", "remaining", "expected"),
    [
        # An error of 1: only the safety factor.
        (0.1, 1.0, 1.0, 0.09),
        (0.1, 0.5, 1.0, 0.09 * 2**0.9),
        (0.1, 4.0, 1.0, 0.09 / 4**0.9),
        # No error: the whole remaining time.
        (0.1, 0.0, 0.7, 0.7),
        (0.1, 1e-9, 0.05, 0.05),
        (0.1, math.inf, 0.5, 0.0),
        # At the end time.
        (0.5, 1.0, 0.0, 0.0),
    ],
)
def test_next_step_size(h, error, remaining, expected):
    args = (torch.tensor([v], dtype=torch.float64) for v in (h, error, remaining))
    assert float(next_step_size(*args, safety=0.9, exponent=0.9)) == pytest.approx(expected)


def test_nan_error_gives_nan_step():
    args = (torch.tensor([v], dtype=torch.float64) for v in (0.1, math.nan, 0.5))
    assert math.isnan(float(next_step_size(*args, safety=0.9, exponent=0.9)))
