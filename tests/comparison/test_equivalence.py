"""Statements about two settings: intervals, claims and the number of samples that decides."""

import math
import random
from statistics import fmean, stdev

import pytest

from ggf_cli.comparison.equivalence import interval, state, t_quantile


@pytest.mark.parametrize("freedom", [1, 2, 3, 4, 19, 20, 119, 1999])
@pytest.mark.parametrize("probability", [0.5, 0.6, 0.975, 0.9999])
def test_quantiles_of_t_agree_with_scipy(probability, freedom):
    from scipy.stats import t

    assert t_quantile(probability, freedom) == pytest.approx(
        t.ppf(probability, freedom), rel=1e-9, abs=1e-9
    )


def test_the_interval_is_that_of_students_t():
    values = [1.0, 2.0, 4.0, 3.0]
    mean, half = interval(values)
    assert mean == 2.5
    assert half == pytest.approx(3.18245 * stdev(values) / 2, rel=1e-5)
    # Four statements share the 5 %: t at 1 - 0.05 / 8.
    assert interval(values, 4)[1] == pytest.approx(5.39 * stdev(values) / 2, rel=1e-3)
    assert interval([9.0]) == (9.0, None)


def groups(mean, spread, count=20):
    """Groups with exactly this mean and standard deviation."""
    draw = random.Random(0)
    z = [draw.gauss(0, 1) for _ in range(count)]
    middle, deviation = fmean(z), stdev(z)
    return [mean + spread * (value - middle) / deviation for value in z]


def stated(difference, half, *, margin=0.05, **more):
    """The statement for a difference with this half-width from a baseline of 10."""
    spread = half / t_quantile(0.975, 19) * math.sqrt(20)
    base = [10.0] * 20
    setting = [10 + value for value in groups(difference, spread)]
    return state(setting, base, scale=base, margin=margin, samples=400, **more)


@pytest.mark.parametrize(
    ("difference", "half", "claim"),
    [
        (0.0, 0.4, "equivalent"),
        (0.2, 0.1, "equivalent"),
        (-0.2, 0.1, "equivalent"),
        (-2.0, 1.0, "better"),
        (2.0, 1.0, "worse"),
        (0.7, 0.3, "worse"),
        (-1.0, 1.2, "not worse"),
        (0.0, 0.6, "undecided"),
        (0.4, 0.5, "undecided"),
        # A failure to reject is not equivalence.
        (0.0, 30.0, "undecided"),
    ],
)
def test_the_claim_follows_from_the_interval_and_the_margin(difference, half, claim):
    found = stated(difference, half)
    assert found.claim == claim
    assert found.difference == pytest.approx(difference)
    assert found.half == pytest.approx(half)
    assert found.margin == pytest.approx(0.5)
    assert (found.samples is None) == (claim != "undecided")


def test_the_number_of_samples_that_decides():
    # Half-width 2 at n = 400 is 0.5 at 16 times as many, the margin if the difference is 0.
    assert stated(0.0, 2.0).samples == pytest.approx(6400, abs=1)
    # Worse by 1: shown with a half-width of 1.
    assert stated(1.0, 2.0).samples == pytest.approx(1600, abs=1)
    # Better by 1: not worse with a half-width of 1.5.
    assert stated(-1.0, 2.0).samples == pytest.approx(400 * (2 / 1.5) ** 2, abs=1)
    # A margin of a baseline of 0 has no width.
    zero = state([0.1, -0.1], [0.0, 0.0], scale=[0.0, 0.0], margin=0.05, samples=10)
    assert zero.claim == "undecided"
    assert zero.samples is None


def test_differences_are_paired():
    noise = groups(0, 100)
    base = [10 + z for z in noise]
    setting = [12 + z for z in noise]
    assert state(setting, base, scale=base, margin=0.05, samples=9).claim == "worse"


def test_a_single_group_decides_nothing():
    found = state([9.0], [1.0], scale=[1.0], margin=0.05, samples=9)
    assert (found.claim, found.half, found.samples) == ("undecided", None, None)


def test_an_allowance_and_the_error_of_the_margin_widen_the_interval():
    assert stated(0.0, 0.4, allowance=0.2).claim == "undecided"
    assert stated(-0.9, 0.7, allowance=0.3).claim == "not worse"
    # The margin is 0.5 with an error of its own.
    base = [10.0] * 20
    setting = [10 + value for value in groups(0.0, 0.5)]
    assert state(setting, base, scale=base, margin=0.05, samples=9).claim == "equivalent"
    opposite = [10 - 60 * (value - 10) for value in setting]
    assert state(setting, base, scale=opposite, margin=0.05, samples=9).claim == "undecided"


def test_all_statements_of_a_comparison_are_true_with_95_percent():
    """2,000 comparisons of 10 settings with normal groups; false: better or worse than an equal.

    With a true probability of 5 % at most, more than 6.5 % have probability 0.002.
    """
    draw = random.Random(1)
    wrong = 0
    for _ in range(2000):
        base = [draw.gauss(10, 1) for _ in range(20)]
        claims = {
            state(
                [value + draw.gauss(0, 1) for value in base],
                base,
                scale=base,
                margin=1e-6,
                samples=100,
                count=10,
            ).claim
            for _ in range(10)
        }
        wrong += bool(claims & {"better", "worse", "equivalent", "not worse"})
    assert wrong / 2000 < 0.065
