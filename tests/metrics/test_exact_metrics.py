"""Metrics of models with an exact distribution: Fréchet distance and sliced Wasserstein."""

import math

import pytest
import torch

from ggf_cli.errors import UsageError
from ggf_cli.metrics.evaluator import GROUPS, make_evaluators
from ggf_cli.metrics.frechet import excess, frechet, frechet_distance, influence, moments
from ggf_cli.metrics.sliced import sliced_wasserstein
from ggf_cli.networks.mixture import two_dimensional
from problems import normal


def test_exact_samples_have_frechet_distance_zero_and_shifted_ones_the_square_of_the_shift():
    mixture = two_dimensional()
    x = mixture.sample(100_000, torch.Generator().manual_seed(0))
    assert frechet(x, *mixture.moments()) < 1e-4
    assert frechet(x + 0.5, *mixture.moments()) == pytest.approx(2 * 0.25, abs=5e-3)


@pytest.mark.parametrize(("mean", "scale"), [(0.0, 0.5), (0.4, 1.0)], ids=["covariance", "mean"])
def test_the_standard_error_of_a_frechet_distance_is_its_spread_over_many_sets(mean, scale):
    """The error from the influence of samples equals the spread over 300 sets."""
    reference = moments(two_dimensional().sample(50_000, torch.Generator().manual_seed(0)))
    sets = [
        scale * two_dimensional().sample(400, torch.Generator().manual_seed(seed)) + mean
        for seed in range(1, 301)
    ]
    spread = torch.tensor([frechet(x, *reference) for x in sets]).std()
    influences = [influence(x, *reference) for x in sets[:50]]
    errors = torch.stack([values.std() / math.sqrt(400) for values in influences])
    assert float(errors.mean()) == pytest.approx(float(spread), rel=0.12)
    assert float(influences[0].mean()) == pytest.approx(0, abs=1e-12)


def test_the_influence_of_a_sample_is_the_derivative_by_its_weight():
    """A sample of weight 1 + e: the derivative of the distance of the weighted moments."""
    x = normal(60, 4, dtype=torch.float64) * torch.tensor([1.0, 2.0, 0.5, 1.5])
    reference = moments(normal(500, 4, mean=0.3, seed=1, dtype=torch.float64))
    weights = torch.full((60,), 1 / 60, dtype=torch.float64)

    def distance(w):
        w = w / w.sum()
        mean = w @ x
        centred = x - mean
        return frechet_distance(mean, centred.T @ (w[:, None] * centred), *reference)

    changed = weights.clone()
    changed[7] += 1e-6
    slope = (distance(changed) - distance(weights)) / 1e-6
    assert float(influence(x, *reference)[7]) == pytest.approx(slope, rel=0.05)


def test_the_mean_of_the_groups_is_the_value(mixture):
    evaluators = make_evaluators(["frechet", "swd"], mixture)
    x = mixture.distribution.sample(500, torch.Generator().manual_seed(7))
    groups = evaluators[0].groups(x)
    assert len(groups) == GROUPS
    assert sum(groups) / GROUPS == pytest.approx(evaluators[0].evaluate(x), rel=1e-9)
    assert evaluators[1].groups(x) == [evaluators[1].evaluate(x)]


def test_evaluators_of_an_exact_model_take_samples_without_clamping(mixture):
    evaluators = make_evaluators(["frechet", "swd"], mixture)
    x = mixture.distribution.sample(500, torch.Generator().manual_seed(7))
    # Outside of the range of an image.
    assert x.abs().max() > 1
    exact = mixture.distribution.sample(500, torch.Generator().manual_seed(1))
    assert evaluators[0].evaluate(x) == frechet(x.flatten(1), *mixture.distribution.moments())
    assert evaluators[1].evaluate(x) == sliced_wasserstein(x, exact)
    floors = {}
    for evaluator in evaluators:
        assert evaluator.sample_form == "x"
        floor = floors[evaluator.name] = evaluator.floor(500, 2)
        assert len(set(floor.values)) == 2
        assert evaluator.evaluate(x) < 3 * max(floor.values) < evaluator.evaluate(x + 0.5)
    assert floors["frechet"].what == "500 exact samples, against the exact moments"
    assert floors["swd"].what == "500 exact samples, against 500 others"


def test_sliced_wasserstein_of_gaussians_has_a_closed_form():
    """A shift by m in each coordinate moves a projection by |m| / sqrt(D) in the mean square."""
    x = normal(4000, 30, dtype=torch.float64)
    assert sliced_wasserstein(x, x) == 0
    shifted = sliced_wasserstein(x, x + 0.7)
    assert shifted == pytest.approx(0.7, rel=0.05)
    wider = sliced_wasserstein(x, 1.5 * x)
    assert wider == pytest.approx(0.5, rel=0.05)
    assert sliced_wasserstein(x, normal(4000, 30, seed=1, dtype=torch.float64)) < 0.05


def test_sliced_wasserstein_depends_on_more_than_the_moments():
    """Two points and a Gaussian, both of mean 0 and variance 1."""
    x = normal(5000, 1, dtype=torch.float64)
    points = torch.where(x > 0, 1.0, -1.0)
    # W2^2 = E (|z| - 1)^2 = 2 - 2 sqrt(2 / pi)
    expected = math.sqrt(2 - 2 * math.sqrt(2 / math.pi))
    assert sliced_wasserstein(x, points) == pytest.approx(expected, rel=0.02)


def test_samples_that_cannot_be_compared_are_refused(mixture):
    x = normal(10, 2, dtype=torch.float64)
    with pytest.raises(UsageError, match="cannot be compared"):
        sliced_wasserstein(x, x[:5])
    x[3] = math.nan
    with pytest.raises(UsageError, match="1 of 10 samples are not finite"):
        sliced_wasserstein(x, x)
    [evaluator] = make_evaluators(["frechet"], mixture)
    samples = mixture.distribution.sample(10)
    with pytest.raises(UsageError, match="shape"):
        evaluator.evaluate(samples[:, :1])
    samples[3] = math.nan
    with pytest.raises(UsageError, match="1 of 10 samples are not finite"):
        evaluator.evaluate(samples)


def test_a_frechet_distance_minus_its_excess_is_the_distance_for_many_samples():
    """The mean over 100 sets of 400 samples, within 4 standard errors."""
    mixture = two_dimensional()
    reference = mixture.moments()
    for scale, shift in ((1.0, 0.0), (0.978**0.5, 0.0), (1.2, 0.3)):
        mean, covariance = (part.double() for part in reference)
        truth = frechet_distance(mean * scale + shift, scale**2 * covariance, mean, covariance)
        sets = [
            scale * mixture.sample(400, torch.Generator().manual_seed(seed)) + shift
            for seed in range(100)
        ]
        found = torch.tensor([frechet(x, *reference) - excess(x, *reference) for x in sets])
        assert float(found.mean()) == pytest.approx(truth, abs=4 * float(found.std()) / 10)


def test_the_excess_is_that_of_the_jackknife_by_the_plain_formula():
    x = normal(47, 5, dtype=torch.float64)
    reference = moments(normal(500, 5, seed=1, mean=0.2, dtype=torch.float64))
    parts = torch.tensor_split(torch.arange(47), 20)
    left = [
        frechet(x[[i for i in range(47) if i not in part.tolist()]], *reference) for part in parts
    ]
    expected = 19 * (sum(left) / 20 - frechet(x, *reference))
    assert excess(x, *reference) == pytest.approx(expected, rel=1e-9)
    assert excess(x[:2], *reference) == 0.0
    assert excess(x[:4], *reference) > 0
