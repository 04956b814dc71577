"""KID, precision, recall and coverage against naive formulas, and in cases with a known answer."""

import math

import pytest
import torch

from ggf_cli.metrics import kernel
from ggf_cli.metrics.kernel import kid
from ggf_cli.metrics.manifold import coverage, precision, recall
from problems import normal


def naive_kid(x, y):
    """Equation 4 of the paper, pair by pair."""

    def k(a, b):
        return (float(a @ b) / len(a) + 1) ** 3

    def between(rows):
        pairs = [k(a, b) for i, a in enumerate(rows) for j, b in enumerate(rows) if i != j]
        return sum(pairs) / len(pairs)

    across = [k(a, b) for a in x for b in y]
    return between(x) + between(y) - 2 * sum(across) / len(across)


def test_kid_equals_its_formula():
    x, y = normal(13, 5).double(), normal(9, 5, mean=0.3, seed=1).double()
    assert kid(x, y) == pytest.approx(naive_kid(x, y), rel=1e-9)


def test_kid_of_large_sets_uses_subsets_and_is_reproducible(monkeypatch):
    x, y = normal(900, 8), normal(700, 8, mean=0.3, seed=1)
    whole = kid(x, y)
    monkeypatch.setattr(kernel, "SUBSET_SIZE", 200)
    assert kid(x, y) == kid(x, y)
    assert kid(x, y) == pytest.approx(whole, rel=0.1)
    assert kid(x, y, seed=1) != kid(x, y)


def test_kid_has_no_bias():
    """The mean over 200 pairs of sets of one distribution is 0 within 4 standard errors.

    It fails by chance once in 16,000.
    """
    values = torch.tensor(
        [kid(normal(20, 4, seed=2 * i), normal(20, 4, seed=2 * i + 1)) for i in range(200)]
    )
    assert abs(float(values.mean())) < 4 * float(values.std()) / math.sqrt(len(values))
    assert float(values.min()) < 0


def naive_radius(points, i, k):
    return sorted(math.dist(points[i], other) for j, other in enumerate(points) if j != i)[k - 1]


def naive_precision(x, y, k=3):
    inside = [any(math.dist(a, y[j]) <= naive_radius(y, j, k) for j in range(len(y))) for a in x]
    return sum(inside) / len(inside)


def naive_coverage(x, y, k=5):
    near = [any(math.dist(a, y[j]) <= naive_radius(y, j, k) for a in x) for j in range(len(y))]
    return sum(near) / len(near)


@pytest.mark.parametrize("shift", [0.0, 1.0, 2.0])
def test_precision_recall_and_coverage_equal_those_by_brute_force(shift):
    x, y = normal(40, 3, mean=shift), normal(30, 3, seed=1)
    rows, others = x.double().tolist(), y.double().tolist()
    assert precision(x, y) == naive_precision(rows, others)
    assert recall(x, y) == naive_precision(others, rows)
    assert coverage(x, y) == naive_coverage(rows, others)


def test_blocks_of_rows_make_no_difference(monkeypatch):
    x, y = normal(50, 3, mean=1), normal(40, 3, seed=1)
    whole = precision(x, y), recall(x, y), coverage(x, y)
    monkeypatch.setattr("ggf_cli.metrics.manifold.ROWS", 7)
    assert (precision(x, y), recall(x, y), coverage(x, y)) == whole


def test_shares_are_1_for_equal_sets_and_0_for_distant_sets():
    x = normal(60, 4)
    for share in (precision, recall, coverage):
        assert share(x, x) == 1
        assert share(x, x + 100) == 0


def test_a_missing_mode_reduces_recall_and_coverage_but_not_precision():
    modes = [normal(50, 4, mean=mean, seed=mean) for mean in (0, 50, 100, 150)]
    real = torch.cat(modes)
    drawn = torch.cat([normal(50, 4, mean=mean, seed=mean + 1) for mean in (0, 50, 100)])
    assert precision(drawn, real) > 0.7
    assert recall(drawn, real) <= 0.75
    assert 0.6 < coverage(drawn, real) <= 0.75


def test_noise_has_low_precision_and_coverage_and_high_recall():
    real, noise = normal(200, 4), normal(200, 4, std=5, seed=1)
    assert precision(noise, real) < 0.3
    # The balls of noise are large, so recall is high; coverage is not.
    assert recall(noise, real) > 0.9
    assert coverage(noise, real) < 0.6
