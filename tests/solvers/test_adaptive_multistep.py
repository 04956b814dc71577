"""adaptive-multistep: exact cases, orders, and step sizes that depend on the past only."""

import math
from dataclasses import replace

import pytest
import scipy.integrate
import scipy.stats
import torch

import ggf_cli
from ggf_cli.noise import Noise
from ggf_cli.sde import expand_as_batch
from ggf_cli.solvers.adaptive_multistep import GROWTH, H_FIRST, AdaptiveMultistep, missed_share
from orders import SDES, flow, prior, rms
from problems import MEAN, STD, VP, every_sde, gaussian_model, gaussian_score

short_sde = pytest.mark.parametrize("sde", SDES, ids=lambda sde: sde.name)


def trace(solver, sde, score, x, noise):
    """x and t after every step, the start included."""
    rows = solver.start(x, torch.arange(len(x)), sde)
    result = [(rows.x, rows.t)]
    while not rows.done.all():
        rows = solver.step(rows, score, noise, sde)
        result.append((rows.x, rows.t))
    return result


def widths(sde, run):
    """The step sizes of a run in log(alpha / sigma), (steps, B)."""
    return sde.half_log_snr(torch.stack([t for _, t in run])).diff(dim=0)


def equal_steps(h_max, **options):
    """The solver with equal steps: any error is accepted, so that steps soon grow to h_max."""
    return AdaptiveMultistep(h_max=h_max, eps_rel=1e9, denoise=False, **options)


def affine_map(solver, sde, score, draws=400):
    """c, r and s of x(t_eps) = c + r x(T) + sum_k s_k z_k, for a score that is affine in x."""
    x = torch.zeros(draws + 2, 1, dtype=torch.float64)
    x[1] = 1
    # Row 0: all zero. Row 1: x(T) = 1. Row 1 + k: z_k = 1.
    noise = lambda index, draw: (index - 1 == draw).double()[:, None]
    run = trace(solver, sde, score, x, noise)
    assert len(run) <= draws
    end = run[-1][0]
    c, r, s = end[0], end[1] - end[0], end[2:] - end[0]
    return c.squeeze(), r.squeeze(), s.squeeze()


def ends(sde):
    """alpha, sigma and log(alpha / sigma) at T and t_eps."""
    t = torch.tensor([sde.T, sde.t_eps], dtype=torch.float64)
    return sde.alpha(t), sde.sigma(t), sde.half_log_snr(t)


@pytest.mark.parametrize("u", [0.0, 1e-9, 1e-4, 0.3, 2.0, 40.0])
def test_missed_share_is_the_error_of_a_constant_prediction_of_a_line(u):
    expected, _ = scipy.integrate.quad(lambda r: r * u * math.exp(-u * (1 - r)), 0, 1)
    got = float(missed_share(torch.tensor([u], dtype=torch.float64)))
    assert got == pytest.approx(expected, rel=1e-8, abs=1e-15)


@every_sde
@pytest.mark.parametrize("eta", [0.0, 0.4, 1.0])
def test_data_of_one_point_are_solved_exactly(sde, eta):
    """The data prediction is then constant, so that any steps give the exact distribution."""

    def score(x, t):
        return (expand_as_batch(sde.alpha(t), x) * MEAN - x) / expand_as_batch(
            sde.sigma(t).square(), x
        )

    alpha, sigma, level = ends(sde)
    c, r, s = affine_map(AdaptiveMultistep(eta=eta, denoise=False), sde, score)
    path = level[1] - level[0]
    propagator = sigma[1] / sigma[0] * torch.exp(-eta * path)
    torch.testing.assert_close(r, propagator, rtol=1e-7, atol=1e-12)
    torch.testing.assert_close(c, (alpha[1] - propagator * alpha[0]) * MEAN, rtol=1e-7, atol=1e-9)
    variance = sigma[1].square() * -torch.expm1(-2 * eta * path)
    torch.testing.assert_close(s.square().sum(), variance, rtol=1e-7, atol=1e-15)


@short_sde
@pytest.mark.parametrize("eta", [0.5, 1.0])
def test_mean_and_variance_converge_at_order_2(sde, eta):
    """For Gaussian data, against the marginal, from an x(T) of the right mean and variance."""
    alpha, sigma, _ = ends(sde)
    v = (alpha * STD).square() + sigma.square()
    steps, errors = [0.1, 0.05, 0.025], []
    for h in steps:
        c, r, s = affine_map(equal_steps(h, eta=eta), sde, gaussian_score(sde))
        torch.testing.assert_close(c + r * alpha[0] * MEAN, alpha[1] * MEAN, rtol=0, atol=1e-3)
        errors.append(float((r.square() * v[0] + s.square().sum() - v[1]).abs() / v[1]))
    slope = scipy.stats.linregress(torch.tensor(steps).log2(), torch.tensor(errors).log2()).slope
    assert slope == pytest.approx(2, abs=0.35)
    assert errors[-1] < 2e-3


@short_sde
def test_without_noise_it_has_order_2(sde):
    x, steps, errors = prior(sde), [0.1, 0.05, 0.025], []
    for h in steps:
        solver = equal_steps(h, eta=0.0)
        run = trace(solver, sde, gaussian_score(sde), x, lambda i, d: torch.zeros_like(x))
        errors.append(rms(run[-1][0] - flow(sde, x)))
    slope = scipy.stats.linregress(torch.tensor(steps).log2(), torch.tensor(errors).log2()).slope
    assert slope == pytest.approx(2, abs=0.35)
    assert errors[-1] < 2e-3 * rms(flow(sde, x))


@every_sde
def test_defaults_reproduce_mean_and_deviation(sde):
    """Without the correction the deviation is 7 to 9 % too small here."""
    model = gaussian_model(sde, shape=(1, 64, 64))
    images = torch.stack([f.x for f in ggf_cli.stream(model, range(4), solver=AdaptiveMultistep())])
    assert float(images.mean()) == pytest.approx(MEAN, abs=0.02)
    assert float(images.std()) == pytest.approx(STD, rel=0.04)


@every_sde
def test_a_step_size_does_not_depend_on_the_noise_of_its_step(sde):
    """With other noise from draw 7 on, the first 7 step sizes are the same, the eighth is not."""
    solver, score = AdaptiveMultistep(eps_rel=0.005), gaussian_score(sde)
    one, other = (Noise(seed=seed, shape=(1, 4, 4), dtype=torch.float64) for seed in (0, 1))

    def switched(index, draw):
        return torch.where((draw < 7)[:, None, None, None], one(index, draw), other(index, draw))

    index = torch.arange(6)
    x = sde.prior_sampling(one(index, 0 * index))
    a, b = (trace(solver, sde, score, x, noise) for noise in (one, switched))
    for k in range(8):
        assert torch.equal(a[k][1], b[k][1])
    assert torch.equal(a[6][0], b[6][0])
    assert not torch.equal(a[7][0], b[7][0])
    assert (a[8][1] != b[8][1]).all()


@every_sde
def test_steps_stay_within_their_limits(sde):
    score, x = gaussian_score(sde), prior(sde)
    noise = Noise(seed=2, shape=tuple(x.shape[1:]), dtype=torch.float64)
    for options in ({}, {"h_max": 0.4}, {"eps_rel": 0.003}):
        solver = replace(AdaptiveMultistep(denoise=False), **options)
        h = widths(sde, trace(solver, sde, score, x, noise))
        assert float(h.max()) <= solver.h_max * (1 + 1e-6)
        assert float(h[0].max()) == pytest.approx(min(H_FIRST, solver.h_max), rel=1e-6)
        assert (h[1:] <= GROWTH * h[:-1] * (1 + 1e-6)).all()


def test_every_evaluation_is_a_step_or_the_denoising(mixture):
    result = ggf_cli.sample(mixture, 5, solver="adaptive-multistep")
    assert (result.nfe == result.accepted + 1).all()
    assert (result.rejected == 0).all()
    open_ended = ggf_cli.sample(mixture, 5, solver="adaptive-multistep", denoise=False)
    assert torch.equal(open_ended.nfe, result.nfe - 1)


def test_nfe_falls_as_the_tolerance_grows(mixture):
    nfe = []
    for eps_rel in (0.003, 0.01, 0.03, 0.1):
        result = ggf_cli.sample(mixture, 6, solver="adaptive-multistep", eps_rel=eps_rel)
        nfe.append(float(result.nfe.double().mean()))
    assert nfe == sorted(nfe, reverse=True)
    assert len(set(nfe)) == 4


def test_eps_rel_below_one_of_256_levels_changes_nothing_unless_eps_abs_is_set():
    tight, level = AdaptiveMultistep(eps_rel=1e-6), AdaptiveMultistep(eps_rel=1 / 256)
    model = gaussian_model(VP)
    a, b = (ggf_cli.sample(model, 2, solver=solver) for solver in (tight, level))
    assert torch.equal(a.images, b.images)
    finer = ggf_cli.sample(model, 2, solver=replace(tight, eps_abs=VP.eps_abs / 4))
    assert (finer.nfe > a.nfe).all()


@every_sde
def test_errors_far_below_the_noise_cost_no_steps(sde):
    """The error of a network, times sigma / alpha, is the error of its data prediction.

    Where the noise is far above the spread of the data, steps need not resolve that error.
    """
    exact = gaussian_score(sde)

    def disturbed(x, t):
        # An error of 5 % in the predicted noise, whose sign alternates over pixels and levels.
        sign = torch.sin(1e4 * t)[:, None] * torch.tensor([1.0, -1.0], dtype=x.dtype).repeat(8)
        return exact(x, t) * (1 + 0.05 * sign)

    x = prior(sde)
    noise = Noise(seed=3, shape=tuple(x.shape[1:]), dtype=torch.float64)
    steps = []
    for score in (exact, disturbed):
        run = trace(AdaptiveMultistep(eps_rel=0.05), sde, score, x, noise)
        level = sde.half_log_snr(torch.stack([t for _, t in run]))
        steps.append(float((level < -math.log(20)).double().sum(0).mean()))
    assert steps[1] <= steps[0] + 1


@every_sde
def test_eta_zero_is_deterministic(sde):
    x, solver = prior(sde), AdaptiveMultistep(eta=0.0)
    a, b = (
        trace(solver, sde, gaussian_score(sde), x, Noise(seed=s, shape=x.shape[1:]))[-1][0]
        for s in (0, 1)
    )
    assert torch.equal(a, b)
