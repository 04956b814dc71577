"""DDIM and ancestral sampling against diffusers, and DDIM against exact flow maps.

diffusers has 1000 noise levels of a VP process, given by `alphas_cumprod`. Level k is at
t = (k + 1) / 1000. Its `alphas_cumprod` is set to alpha^2 / (alpha^2 + sigma^2) of the SDE under
test, so VE and sub-VP are compared too: their states, divided by sqrt(alpha^2 + sigma^2), are those
of a VP process, and the predicted noise is the same. With "trailing" spacing, n steps of diffusers
are at t = 1, 1 - 1/n, ..., 1/n, and its last step, to an `alphas_cumprod` of 1, is our denoising at
t_eps = 1/n.
"""

from dataclasses import replace

import diffusers
import pytest
import scipy.stats
import torch

from ggf_cli.sde import expand_as_batch
from ggf_cli.solvers.ancestral import Ancestral
from ggf_cli.solvers.ddim import DDIM
from ggf_cli.solvers.schedule import SCHEDULES
from problems import MEAN, STD, SUBVP, VE, VP, gaussian_score

SDES = pytest.mark.parametrize("sde", [VE, VP, SUBVP], ids=lambda sde: sde.name)
LEVELS = 1000


def normals(seed, *shape):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def no_noise(index, draw):
    raise AssertionError("a deterministic solver draws no noise")


def run(solver, sde, x, score, noise=no_noise):
    """The states after every evaluation."""
    rows = solver.start(x, torch.arange(len(x)), sde)
    states = []
    while not rows.done.all():
        rows = solver.step(rows, score, noise, sde)
        states.append(rows.x)
    return states


def to_vp(sde, t):
    """1 / sqrt(alpha^2 + sigma^2), (B,)."""
    return (sde.alpha(t).square() + sde.sigma(t).square()).rsqrt()


def noise_prediction(x, t):
    """A function of the VP state, in place of a network; any will do."""
    return torch.tanh(x * expand_as_batch(1 + t, x)) + expand_as_batch(0.3 * torch.cos(5 * t), x)


def score_of_prediction(sde):
    def score(x, t):
        prediction = noise_prediction(x * expand_as_batch(to_vp(sde, t), x), t)
        return -prediction / expand_as_batch(sde.sigma(t), x)

    return score


def diffusers_states(scheduler, sde, n, x, **step):
    """The states of diffusers after each of n steps, in the scale of the SDE."""
    t = torch.arange(1, LEVELS + 1, dtype=torch.float64) / LEVELS
    # In float64, where the scheduler has float32.
    scheduler.alphas_cumprod = torch.sigmoid(2 * sde.half_log_snr(t))
    scheduler.set_timesteps(n)
    assert torch.equal(t[scheduler.timesteps], torch.linspace(n, 1, n, dtype=torch.float64) / n)
    x = x * to_vp(sde, t[-1:])
    states = []
    for k in scheduler.timesteps:
        prediction = noise_prediction(x, t[k].expand(len(x)))
        x = scheduler.step(prediction, k, x, **step).prev_sample
        before = k - LEVELS // n
        states.append(x / to_vp(sde, t[before]) if before >= 0 else x)
    return states


@SDES
@pytest.mark.parametrize("n", [10, 50])
def test_ddim_takes_the_steps_of_diffusers(sde, n):
    sde = replace(sde, t_eps=1 / n)
    x = sde.prior_sampling(normals(0, 2, 1, 4, 4))
    scheduler = diffusers.DDIMScheduler(timestep_spacing="trailing", clip_sample=False)
    expected = diffusers_states(scheduler, sde, n, x)
    states = run(DDIM(steps=n - 1), sde, x, score_of_prediction(sde))
    assert len(states) == n
    for state, reference in zip(states, expected, strict=True):
        torch.testing.assert_close(state, reference, rtol=1e-10, atol=1e-10)


# The forward variance depends on the scale of the state, so it is compared for VP only.
@pytest.mark.parametrize(
    ("sde", "variance"),
    [(VE, "posterior"), (VP, "posterior"), (SUBVP, "posterior"), (VP, "forward")],
    ids=["ve", "vp", "subvp", "vp-forward"],
)
@pytest.mark.parametrize("n", [10, 50])
def test_ancestral_takes_the_steps_of_diffusers_ddpm(sde, n, variance, monkeypatch):
    sde = replace(sde, t_eps=1 / n)
    x = sde.prior_sampling(normals(0, 2, 1, 4, 4))
    z = normals(1, n + 1, 2, 1, 4, 4)
    draws = iter(z)
    module = "diffusers.schedulers.scheduling_ddpm.randn_tensor"
    monkeypatch.setattr(module, lambda *_, **__: next(draws))
    scheduler = diffusers.DDPMScheduler(
        timestep_spacing="trailing",
        clip_sample=False,
        variance_type={"posterior": "fixed_small", "forward": "fixed_large"}[variance],
    )
    expected = diffusers_states(scheduler, sde, n, x)
    solver = Ancestral(steps=n - 1, variance=variance)
    states = run(solver, sde, x, score_of_prediction(sde), lambda _, draw: z[draw[0] - 1])
    # At sigma = 0 the posterior has no noise (diffusers: 1e-10), but the forward kernel has.
    last = n if variance == "posterior" else n - 1
    for state, reference in zip(states[:last], expected[:last], strict=True):
        torch.testing.assert_close(state, reference, rtol=1e-9, atol=1e-9)


def flow_map(sde, x, t, s):
    """The exact probability flow of Gaussian data, from t to s."""

    def std(t):
        return (sde.alpha(t).square() * STD**2 + sde.sigma(t).square()).sqrt()

    return sde.alpha(s) * MEAN + (x - sde.alpha(t) * MEAN) * std(s) / std(t)


@SDES
@pytest.mark.parametrize("schedule", SCHEDULES)
def test_ddim_converges_to_the_exact_flow_map_at_order_1(sde, schedule):
    x = sde.prior_sampling(normals(0, 1, 64))
    exact = flow_map(sde, x, *torch.tensor([sde.T, sde.t_eps], dtype=torch.float64))
    exponents = range(6, 9)
    solvers = [DDIM(steps=2**e, schedule=schedule, denoise=False) for e in exponents]
    ends = [run(solver, sde, x, gaussian_score(sde))[-1] for solver in solvers]
    errors = torch.stack([(end - exact).square().mean().sqrt() for end in ends])
    slope = -scipy.stats.linregress(exponents, errors.log2()).slope
    assert slope == pytest.approx(1, abs=0.1)
    assert errors[-1] < 0.02 * exact.square().mean().sqrt()


@SDES
@pytest.mark.parametrize("schedule", SCHEDULES)
def test_ddim_is_exact_in_any_number_of_steps_for_data_of_one_point(sde, schedule):
    """The predicted noise is then constant along the flow."""
    x = sde.prior_sampling(normals(0, 2, 64))

    def score(x, t):
        alpha, sigma = expand_as_batch(sde.alpha(t), x), expand_as_batch(sde.sigma(t), x)
        return (alpha * MEAN - x) / sigma.square()

    alpha, sigma = (f(torch.tensor([sde.T, sde.t_eps]).double()) for f in (sde.alpha, sde.sigma))
    exact = alpha[1] * MEAN + sigma[1] / sigma[0] * (x - alpha[0] * MEAN)
    *_, arrived, denoised = run(DDIM(steps=3, schedule=schedule), sde, x, score)
    torch.testing.assert_close(arrived, exact, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(denoised, torch.full_like(x, MEAN), rtol=1e-9, atol=1e-9)
