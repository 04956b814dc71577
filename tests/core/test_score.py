"""Parametrizations of the score: the labels for the network, and the scale of its output."""

import pytest
import torch

from ggf_cli.parametrizations import exact, ve_continuous, vp_continuous, vp_discrete
from problems import SUBVP, VE, VP

X = torch.randn(5, 1, 4, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
T = torch.linspace(0.01, 1, 5, dtype=torch.float64)


@pytest.mark.parametrize("sde", [VP, SUBVP], ids=["vp", "subvp"])
def test_continuous_vp_labels_time_with_999_t_and_divides_by_sigma(sde):
    score = vp_continuous(lambda x, label: x * label[:, None, None, None], sde)(X, T)
    expected = -X * (999 * T / sde.sigma(T))[:, None, None, None]
    torch.testing.assert_close(score, expected)


def test_continuous_ve_labels_time_with_sigma():
    score = ve_continuous(lambda x, label: x * label[:, None, None, None], VE)(X, T)
    torch.testing.assert_close(score, X * VE.sigma(T)[:, None, None, None])


def test_exact_models_are_called_with_alpha_and_sigma():
    score = exact(lambda x, alpha, sigma: x * (alpha / sigma)[:, None, None, None], VP)(X, T)
    torch.testing.assert_close(score, X * (VP.alpha(T) / VP.sigma(T))[:, None, None, None])


def alpha_bar():
    return torch.cumprod(1 - torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64), 0)


def time_of_level(sigma):
    """The time t at which VP has this sigma, by bisection."""
    low, high = torch.zeros_like(sigma), torch.ones_like(sigma)
    for _ in range(60):
        mid = (low + high) / 2
        below = VP.sigma(mid) < sigma
        low, high = torch.where(below, mid, low), torch.where(below, high, mid)
    return low


def test_discrete_vp_is_the_trained_score_at_every_noise_level_of_the_training():
    """At sigma(t) of noise level k the label is k, the score -eps / sqrt(1 - alpha_bar_k)."""
    k = torch.arange(0, 990, dtype=torch.float64)
    t = time_of_level(torch.sqrt(1 - alpha_bar()[:990]))
    labels = []

    def network(x, label):
        labels.append(label)
        return torch.ones_like(x)

    score = vp_discrete(network, VP)(torch.zeros(990, 1, dtype=torch.float64), t)
    torch.testing.assert_close(labels[0], k, rtol=0, atol=1e-6)
    torch.testing.assert_close(score[:, 0], -1 / torch.sqrt(1 - alpha_bar()[:990]))


def test_discrete_vp_labels_rise_with_time_and_stay_in_range():
    labels = []
    vp_discrete(lambda x, label: labels.append(label) or x, VP)(
        torch.zeros(500, 1), torch.linspace(1e-4, 1, 500, dtype=torch.float64)
    )
    assert (labels[0].diff() >= 0).all()
    assert (labels[0].diff()[10:] > 0).all()
    assert 0 == float(labels[0][0]) < float(labels[0][-1]) <= 999
