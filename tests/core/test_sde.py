"""SDEs: moments, half log-SNR, prior, Tweedie's formula, defaults and refused parameters."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ggf_cli.errors import UsageError
from ggf_cli.sde import SDES, VESDE, VPSDE, SubVPSDE, expand_as_batch, sde_from_dict
from problems import MEAN, STD, SUBVP, VE, VP, gaussian_score

TIMES = torch.linspace(0.01, 0.99, 50, dtype=torch.float64)

sdes = st.one_of(
    st.builds(
        VPSDE, beta_min=st.floats(0.01, 1.0), beta_max=st.floats(1.0, 30.0), t_eps=st.just(1e-3)
    ),
    st.builds(SubVPSDE, beta_min=st.floats(0.01, 1.0), beta_max=st.floats(1.0, 30.0)),
    st.builds(VESDE, sigma_min=st.floats(1e-3, 0.1), sigma_max=st.floats(1.0, 1000.0)),
)


@given(sde=sdes, t=st.floats(0.01, 0.99))
def test_alpha_and_sigma_solve_the_moment_equations(sde, t):
    """d alpha / dt = (f / x) alpha;  d sigma^2 / dt = 2 (f / x) sigma^2 + g^2."""
    t, dt = torch.tensor([t], dtype=torch.float64), 1e-5
    rate = sde.drift(torch.ones(1, 1, dtype=torch.float64), t)[:, 0]

    def derivative(f):
        return (f(t + dt) - f(t - dt)) / (2 * dt)

    torch.testing.assert_close(derivative(sde.alpha), rate * sde.alpha(t), rtol=1e-6, atol=1e-8)
    variance = lambda t: sde.sigma(t).square()
    expected = 2 * rate * variance(t) + sde.diffusion(t).square()
    torch.testing.assert_close(derivative(variance), expected, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("sde", [VP, VE, SUBVP], ids=lambda sde: sde.name)
def test_half_log_snr_falls_with_time(sde):
    assert (sde.half_log_snr(TIMES).diff() < 0).all()


@given(sde=sdes)
def test_time_at_is_the_inverse_of_half_log_snr(sde):
    t = torch.cat([TIMES, torch.tensor([sde.t_eps, sde.T], dtype=torch.float64)])
    torch.testing.assert_close(sde.time_at(sde.half_log_snr(t)), t, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("sde", [VP, VE, SUBVP], ids=lambda sde: sde.name)
def test_prior_is_the_marginal_at_T(sde):
    sigma = float(sde.sigma(torch.tensor([sde.T], dtype=torch.float64)))
    assert sde.prior_std == pytest.approx(sigma, rel=1e-4)
    noise = torch.ones(2, 3)
    assert torch.equal(sde.prior_sampling(noise), sde.prior_std * noise)


def test_defaults_are_those_of_the_paper():
    assert (VP.t_eps, SUBVP.t_eps, VE.t_eps) == (1e-3, 1e-3, 1e-5)
    assert (VP.eps_abs, VE.eps_abs) == (2 / 256, 1 / 256)
    assert VESDE(data_range=(-1.0, 1.0)).eps_abs == 2 / 256


@pytest.mark.parametrize("sde", [VP, VE, SUBVP], ids=lambda sde: sde.name)
def test_tweedie_is_the_posterior_mean_of_gaussian_data(sde):
    x = torch.linspace(-3, 3, 50, dtype=torch.float64)[:, None]
    alpha, sigma = sde.alpha(TIMES)[:, None], sde.sigma(TIMES)[:, None]
    gain = alpha * STD**2 / (alpha**2 * STD**2 + sigma**2)
    posterior_mean = MEAN + gain * (x - alpha * MEAN)
    denoised = sde.tweedie_denoise(x, TIMES, gaussian_score(sde)(x, TIMES))
    torch.testing.assert_close(denoised, posterior_mean)


def test_marginal_prob_scales_the_data():
    mean, std = VP.marginal_prob(torch.ones(50, 2), TIMES)
    torch.testing.assert_close(mean, expand_as_batch(VP.alpha(TIMES), mean).expand(50, 2))
    assert torch.equal(std, VP.sigma(TIMES))


def test_values_outside_the_data_range_are_clamped():
    x = torch.tensor([-2.0, -1.0, 0.0, 1.0, 2.0])
    assert VP.to_unit_range(x).tolist() == [0.0, 0.0, 0.5, 1.0, 1.0]
    assert VE.to_unit_range(x).tolist() == [0.0, 0.0, 0.0, 1.0, 1.0]


@given(sde=sdes)
def test_an_sde_is_equal_after_a_round_trip_through_a_dict(sde):
    assert sde_from_dict(sde.to_dict()) == sde


@pytest.mark.parametrize(
    "bad",
    [
        lambda: VPSDE(t_eps=0.0),
        lambda: VPSDE(t_eps=math.nan),
        lambda: VPSDE(beta_min=0.0),
        lambda: VESDE(sigma_min=2.0, sigma_max=1.0),
        lambda: VESDE(sigma_max=math.inf),
        lambda: VPSDE(data_range=(1.0, -1.0)),
        lambda: sde_from_dict({"name": "vpp"}),
        lambda: sde_from_dict({"name": "vp", "sigma_max": 3}),
    ],
)
def test_invalid_sdes_are_refused(bad):
    with pytest.raises(UsageError):
        bad()


def test_the_table_holds_the_sdes_by_name():
    assert list(SDES) == ["ve", "vp", "subvp", "cosine", "edm", "flow"]
    assert all(entry.load().name == name for name, entry in SDES.items())
