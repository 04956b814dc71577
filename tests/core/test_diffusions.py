"""Cosine VP, EDM, flow matching, and the SDE of any alpha and sigma."""

import math
from dataclasses import dataclass, replace
from typing import ClassVar

import pytest
import torch

import ggf_cli
from command import ggf, read_log
from ggf_cli.engine import Engine
from ggf_cli.errors import UsageError
from ggf_cli.runs.run_log import model_settings
from ggf_cli.runs.sde_settings import CustomSettings
from ggf_cli.sde import SDE, expand_as_batch, sde_from_dict
from ggf_cli.solvers import SOLVERS, make_solver
from problems import MEAN, STD, SUBVP, VE, VP, gaussian_model, gaussian_score, normal

NAMED = [ggf_cli.CosineVPSDE(), ggf_cli.CosineVPSDE(s=0.0), ggf_cli.EDM(), ggf_cli.FlowMatching()]


def as_functions(sde, **options):
    """The SDE of the alpha and sigma of another one."""
    options = {"T": sde.T, "t_eps": sde.t_eps, "prior": sde.prior_std, **options}
    return ggf_cli.GaussianDiffusion(sde.alpha, sde.sigma, data_range=sde.data_range, **options)


# Time runs to 3, and neither alpha nor sigma is of a named SDE.
OWN = ggf_cli.GaussianDiffusion(lambda t: torch.exp(-t * t), lambda t: t * (1 + t) / 2, T=3.0)
ALL = [*NAMED, OWN]

every_named = pytest.mark.parametrize("sde", NAMED, ids=lambda sde: sde.name)
# One solver for each kind of state that rows carry; the others are slow tests.
KINDS = ("em", "adaptive", "adaptive-multistep", "heun", "ode-rk45", "pc")
every_solver = pytest.mark.parametrize(
    "name", [pytest.param(n, marks=() if n in KINDS else pytest.mark.slow) for n in SOLVERS]
)
every_new = pytest.mark.parametrize("sde", ALL, ids=lambda sde: sde.name)


def draw(sde, n, solver, shape=(64,)):
    """Draw n samples of Gaussian data; return x and NFE."""
    engine = Engine(gaussian_model(sde, shape), solver, batch_size=n)
    samples = sorted(engine.run(range(n)), key=lambda sample: sample.index)
    assert {sample.outcome for sample in samples} == {"done"}
    return torch.stack([sample.x for sample in samples]), [sample.nfe for sample in samples]


def times(sde, n=200):
    return torch.linspace(sde.t_eps, sde.T, n, dtype=torch.float64)


@every_named
def test_alpha_and_sigma_solve_the_moment_equations(sde):
    """d alpha / dt = (f / x) alpha;  d sigma^2 / dt = 2 (f / x) sigma^2 + g^2, by autograd."""
    derived, t = as_functions(sde), times(sde)
    x = torch.ones(len(t), 3, dtype=torch.float64)
    torch.testing.assert_close(sde.drift(x, t), derived.drift(x, t), rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(sde.diffusion(t), derived.diffusion(t), rtol=1e-10, atol=0)


@pytest.mark.parametrize("sde", [VP, VE, SUBVP], ids=lambda sde: sde.name)
def test_the_functions_of_an_sde_give_its_drift_diffusion_and_times(sde):
    derived, t = as_functions(sde), times(sde)
    x = torch.ones(len(t), 3, dtype=torch.float64)
    torch.testing.assert_close(derived.drift(x, t), sde.drift(x, t), rtol=1e-10, atol=0)
    torch.testing.assert_close(derived.diffusion(t), sde.diffusion(t), rtol=1e-10, atol=0)
    level = sde.half_log_snr(t)
    torch.testing.assert_close(derived.time_at(level), sde.time_at(level), rtol=1e-12, atol=1e-15)


@every_solver
def test_the_functions_of_vp_give_the_samples_of_vp(name):
    """To rounding, which the rejections of an adaptive solver do not amplify here."""
    solver = make_solver(name, {"steps": 20} if "steps" in make_solver(name).options() else {})
    of_vp, derived = (draw(sde, 3, solver) for sde in (VP, as_functions(VP)))
    assert of_vp[1] == derived[1]
    torch.testing.assert_close(derived[0], of_vp[0], rtol=0, atol=1e-8)


@every_new
def test_time_at_is_the_inverse_of_half_log_snr(sde):
    t = times(sde)
    level = sde.half_log_snr(t)
    assert (level.diff() < 0).all()
    torch.testing.assert_close(sde.time_at(level), t, rtol=1e-12, atol=1e-14)


def test_the_inverse_of_a_custom_sde_stays_within_its_times():
    level = torch.tensor([math.inf, 1e3, -1e3, -math.inf, math.nan], dtype=torch.float64)
    assert OWN.time_at(level)[:4].tolist() == [OWN.t_eps, OWN.t_eps, OWN.T, OWN.T]


@every_new
def test_the_marginals_of_gaussian_data_follow_the_forward_sde(sde):
    """Fine Euler steps of d mean / dt = f mean and d var / dt = 2 f var + g^2, from t_eps up."""
    t = torch.exp(torch.linspace(math.log(sde.t_eps), math.log(0.6 * sde.T), 100_001).double())
    middle = (t[1:] + t[:-1]) / 2
    rate = sde.drift(torch.ones(len(middle), 1, dtype=torch.float64), middle)[:, 0]
    grown = (rate * t.diff()).cumsum(0)
    mean = sde.alpha(t[:1]) * MEAN * torch.exp(grown[-1])
    start = (sde.alpha(t[:1]) * STD) ** 2 + sde.sigma(t[:1]) ** 2
    added = sde.diffusion(middle).square() * t.diff() * torch.exp(-2 * grown)
    variance = (start + added.sum()) * torch.exp(2 * grown[-1])
    expected_mean, sigma = sde.marginal_prob(torch.full((1, 1), MEAN).double(), t[-1:])
    torch.testing.assert_close(mean, expected_mean[0], rtol=1e-6, atol=0)
    expected = (sde.alpha(t[-1:]) * STD) ** 2 + sigma**2
    torch.testing.assert_close(variance, expected, rtol=1e-3, atol=0)


@every_new
def test_prior_is_the_marginal_at_T(sde):
    assert sde.prior_std == pytest.approx(float(sde.sigma(times(sde)[-1:])), rel=1e-4)


@every_new
def test_tweedie_is_the_posterior_mean_of_gaussian_data(sde):
    t = times(sde, 50)
    x = torch.linspace(-3, 3, 50, dtype=torch.float64)[:, None]
    alpha, sigma = sde.alpha(t)[:, None], sde.sigma(t)[:, None]
    gain = alpha * STD**2 / (alpha**2 * STD**2 + sigma**2)
    denoised = sde.tweedie_denoise(x, t, gaussian_score(sde)(x, t))
    torch.testing.assert_close(denoised, MEAN + gain * (x - alpha * MEAN), rtol=1e-6, atol=1e-8)


# Solvers whose default steps are too few, or too coarse at the noise levels of the data: equal
# steps in EDM's time, or the large errors at the end of restart and pc.
OPTIONS = {"ddim": {"schedule": "logsnr"}, "restart": {"steps": 60}, "heun": {"steps": 60}}


@every_new
@every_solver
def test_every_solver_draws_gaussian_data(sde, name):
    """200 x 64 values: the mean within 3 % of the scale, the standard deviation within 6 %."""
    options = dict(OPTIONS.get(name, {}))
    if sde.name == "edm" and "schedule" in make_solver(name).options():
        options["schedule"] = "karras"
    x, _ = draw(sde, 200, make_solver(name, options))
    assert float(x.mean()) == pytest.approx(MEAN, abs=0.02)
    assert float(x.std()) == pytest.approx(STD, rel=0.06)


def test_an_element_does_not_depend_on_its_position_or_the_others():
    """Also where torch rounds an element by its position: pow and sigmoid."""
    sde = ggf_cli.GaussianDiffusion(
        lambda t: torch.sigmoid(3 - 5 * t), lambda t: t**1.3 * torch.sigmoid(5 * t - 3)
    )
    t = times(sde, 37)
    x = torch.ones(37, 2, dtype=torch.float64)
    level = sde.half_log_snr(t)
    for i in range(37):
        one = slice(i, i + 1)
        assert torch.equal(sde.alpha(t)[one], sde.alpha(t[one]))
        assert torch.equal(sde.drift(x, t)[one], sde.drift(x[one], t[one]))
        assert torch.equal(sde.diffusion(t)[one], sde.diffusion(t[one]))
        assert torch.equal(sde.time_at(level)[one], sde.time_at(level[one]))


def test_a_custom_sde_works_without_gradients_and_keeps_shape_and_dtype():
    t = torch.full((2, 3), 0.5)
    with torch.inference_mode():
        inside = OWN.diffusion(t * 1)
    assert torch.equal(inside, OWN.diffusion(t))
    assert inside.shape == (2, 3)
    assert inside.dtype == torch.float32
    assert not inside.requires_grad


def test_derivatives_may_be_given():
    calls = []

    def slope(t):
        calls.append(1)
        return -2 * t * torch.exp(-t * t)

    sde = ggf_cli.GaussianDiffusion(OWN.alpha, OWN.sigma, T=3.0, alpha_slope=slope)
    assert calls
    torch.testing.assert_close(sde.diffusion(times(OWN)), OWN.diffusion(times(OWN)))
    with pytest.raises(UsageError, match="the derivative of alpha differs"):
        ggf_cli.GaussianDiffusion(OWN.alpha, OWN.sigma, T=3.0, alpha_slope=lambda t: 2 * slope(t))


def cut_off(t):
    """A sigma whose derivative autograd cannot see."""
    return torch.from_numpy(t.detach().numpy() + 0.0)


@pytest.mark.parametrize(
    ("alpha", "sigma", "reason"),
    [
        (lambda t: 1 + t, lambda t: torch.ones_like(t), "alpha / sigma does not fall with t, at"),
        (lambda t: torch.ones_like(t), lambda t: 1.1 - t, "alpha / sigma does not fall"),
        (torch.ones_like, torch.ones_like, "alpha / sigma does not fall"),
        (torch.ones_like, lambda t: 1 / (1 - t), "sigma.t. is not finite"),
        (lambda t: torch.sqrt(0.9 - t), lambda t: t, "alpha.t. is not finite"),
        (lambda t: 1 - t, lambda t: t, "alpha.t. is not positive"),
        (torch.ones_like, lambda t: t - 0.01, "sigma.t. is not positive"),
        (lambda t: 1.0, lambda t: t, "alpha.t. of t with shape .* is 1.0"),
        (lambda t: t.sum(), lambda t: t, "alpha.t. of t with shape .* is shape"),
        (torch.ones_like, lambda t: t / t.max(), "depends on the other elements"),
        (torch.ones_like, cut_off, "derivative of sigma differs"),
        (1.0, lambda t: t, "must be a function of t"),
        (torch.ones_like, lambda t: 1e-14 * t, "sigma / alpha is .* at t_eps"),
    ],
)
def test_functions_that_are_no_diffusion_are_refused(alpha, sigma, reason):
    with pytest.raises(UsageError, match=reason):
        ggf_cli.GaussianDiffusion(alpha, sigma)


@pytest.mark.parametrize(
    "bad",
    [
        lambda: ggf_cli.GaussianDiffusion(),
        lambda: replace(OWN, T=0.0),
        lambda: replace(OWN, T=math.inf),
        lambda: replace(OWN, t_eps=3.0),
        lambda: replace(OWN, prior=-1.0),
        lambda: ggf_cli.FlowMatching(T=1.0),
        lambda: ggf_cli.CosineVPSDE(T=1.5),
        lambda: ggf_cli.CosineVPSDE(s=-0.1),
        lambda: ggf_cli.EDM(sigma_min=2.0, sigma_max=1.0),
        lambda: ggf_cli.EDM(t_eps=0.001),
        lambda: ggf_cli.EDM(t_eps=80.0),
        lambda: sde_from_dict(OWN.to_dict()),
    ],
)
def test_invalid_parameters_are_refused(bad):
    with pytest.raises(UsageError):
        bad()


def test_fields_can_be_replaced():
    assert replace(OWN, t_eps=0.1).t_eps == 0.1
    assert replace(OWN, T=2.0).prior_std == pytest.approx(3.0)
    assert replace(OWN) == OWN
    assert hash(replace(OWN)) == hash(OWN)
    assert ggf_cli.EDM(sigma_min=0.01).t_eps == 0.01
    assert replace(ggf_cli.EDM(), t_eps=0.1).t_eps == 0.1


@every_named
def test_a_named_sde_is_equal_after_a_round_trip_through_a_dict(sde):
    assert sde_from_dict(sde.to_dict()) == sde


@every_new
def test_a_run_log_has_the_sde(sde):
    settings = model_settings(gaussian_model(sde))
    assert type(settings.sde).__struct_config__.tag == sde.name
    assert settings.sde.t_eps == sde.t_eps


@dataclass(frozen=True, kw_only=True)
class Straight(SDE):
    """alpha = 1, sigma = t up to 2: an SDE of a user."""

    name: ClassVar[str] = "edm"

    t_eps: float = 0.01
    data_range: tuple[float, float] = (-1.0, 1.0)

    @property
    def T(self):
        return 2.0

    @property
    def prior_std(self):
        return 2.0

    def alpha(self, t):
        return torch.ones_like(t)

    def sigma(self, t):
        return t

    def drift(self, x, t):
        return torch.zeros_like(x)

    def diffusion(self, t):
        return torch.sqrt(2 * t)

    def time_at(self, half_log_snr):
        return torch.exp(-half_log_snr)


def test_an_sde_of_ones_own_is_sampled_and_logged_by_its_values():
    x, _ = draw(Straight(), 50, make_solver("em", {"steps": 200}))
    assert float(x.std()) == pytest.approx(STD, rel=0.06)
    settings = model_settings(gaussian_model(Straight())).sde
    assert isinstance(settings, CustomSettings)
    assert (settings.times[0], settings.times[-1]) == (0.01, 2.0)
    assert settings.sigma == settings.times


@every_new
def test_a_run_folder_has_the_sde_and_shows_it(sde, tmp_path):
    model = gaussian_model(sde, (1, 4, 4), torch.float32)
    ggf_cli.run(model, 2, out=tmp_path / "a", solver="adaptive", eps_rel=0.5)
    assert read_log(tmp_path / "a")["model"]["sde"]["name"] == sde.name
    assert ggf("show", tmp_path / "a").exit_code == 0


def test_expand_as_batch_broadcasts_the_drift():
    x = normal(3, 4, seed=1, dtype=torch.float64)
    t = times(OWN, 3)
    rate = OWN.drift(torch.ones_like(x), t)[:, 0]
    torch.testing.assert_close(OWN.drift(x, t), expand_as_batch(rate, x) * x)
