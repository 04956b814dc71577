"""The heun solver against EDM and diffusers, and the intervals of restart."""

import math
import warnings
from dataclasses import replace

import pytest
import torch

import ggf_cli
from ggf_cli.errors import UsageError
from ggf_cli.noise import Noise
from ggf_cli.sde import expand_as_batch
from ggf_cli.solvers.heun import Heun
from ggf_cli.solvers.restart import Restart
from ggf_cli.solvers.schedule import time_grid
from problems import VE, VP, every_sde, gaussian_model, gaussian_score


def ratio(sde, t):
    return torch.exp(-sde.half_log_snr(t))


def end(solver, sde, x, noise=None):
    rows = solver.start(x, torch.arange(len(x)), sde)
    while not rows.done.all():
        rows = solver.step(rows, gaussian_score(sde), noise, sde)
    return rows.x


@pytest.mark.parametrize("steps", [5, 17])
def test_heun_takes_the_steps_of_diffusers_on_karras_levels(steps):
    """diffusers gets our levels at k / 1000; its last step, to sigma = 0, is our denoising."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from diffusers import HeunDiscreteScheduler

        sde = VP
        # The last is T, the first t_eps.
        levels = torch.arange(1, 1001, dtype=torch.float64) / 1000
        scheduler = HeunDiscreteScheduler(use_karras_sigmas=True)
        scheduler.alphas_cumprod = sde.alpha(levels).square()
        scheduler.set_timesteps(steps + 1)

    x = torch.randn(3, 1, 4, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    one = torch.ones(3, dtype=torch.float64)
    y = x / sde.alpha(one)[0]
    for k, label in enumerate(scheduler.timesteps):
        t = sde.time_at(-torch.log(scheduler.sigmas[k].double() * one))
        scaled = expand_as_batch(sde.alpha(t), y) * y
        eps = -expand_as_batch(sde.sigma(t), y) * gaussian_score(sde)(scaled, t)
        y = scheduler.step(eps, label, y).prev_sample
    torch.testing.assert_close(end(Heun(steps=steps), sde, x), y, rtol=1e-5, atol=1e-5)


@every_sde
def test_churn_is_edms_algorithm_2(sde):
    """The algorithm written as in the paper, in y = x / alpha and sigma / alpha; same noise."""
    steps, s_min, s_max, s_noise = 8, 0.05, 5.0, 1.003
    gamma = min(3.0 / (steps + 1), math.sqrt(2) - 1)
    noise = Noise(seed=1, shape=(5,), dtype=torch.float64)
    index = torch.arange(2)
    x = sde.prior_sampling(noise(index, torch.zeros_like(index)))
    sigmas = ratio(sde, time_grid(sde, steps, "karras", torch.device("cpu"))).tolist()

    def eps(y, s):
        t = sde.time_at(-torch.full((2,), s, dtype=torch.float64).log())
        return -expand_as_batch(sde.sigma(t), y) * gaussian_score(sde)(sde.alpha(t)[0] * y, t)

    y = x / sde.alpha(torch.ones(1, dtype=torch.float64))
    for i, (s, s_next) in enumerate(zip(sigmas, [*sigmas[1:], 0.0], strict=True)):
        if s_min <= s <= s_max and s_next > 0:
            s_hat = s * (1 + gamma)
            z = noise(index, torch.full_like(index, i + 1))
            y, s = y + math.sqrt(s_hat**2 - s**2) * s_noise * z, s_hat
        d = eps(y, s)
        y_next = y + (s_next - s) * d
        if s_next > 0:
            y_next = y + (s_next - s) * (d + eps(y_next, s_next)) / 2
        y = y_next

    solver = Heun(steps=steps, s_churn=3.0, s_min=s_min, s_max=s_max, s_noise=s_noise)
    torch.testing.assert_close(end(solver, sde, x, noise), y, rtol=1e-9, atol=1e-9)


def test_noise_never_exceeds_that_at_T():
    starts, _ = Heun(steps=5, s_churn=9.0).path(VP, time_grid(VP, 5, "karras", torch.device("cpu")))
    assert starts.max() == VP.T


@every_sde
def test_restarts_return_to_a_higher_noise_level_and_repeat_the_steps(sde):
    sde = replace(sde, data_range=(-1.0, 1.0))
    solver = Restart(steps=20, intervals="1.00-2.00:3x2,0.10-0.40:2x1")
    grid = time_grid(sde, 20, "karras", torch.device("cpu"))
    starts, ends = solver.path(sde, grid)
    assert len(starts) == 20 + 3 * 2 + 2
    assert solver.nfe_of(20) == 2 * len(starts) + 1

    up = (starts[1:] > ends[:-1]).nonzero()[:, 0]
    assert len(up) == 3
    torch.testing.assert_close(
        ratio(sde, starts[up + 1]), torch.tensor([2.0, 2.0, 0.4], dtype=torch.float64)
    )
    low = ratio(sde, ends[up])
    assert low[0] == low[1] == ratio(sde, grid)[(ratio(sde, grid) - 1.0).abs().argmin()]
    # All other steps start where the previous step ended, and all times of the grid are visited.
    kept = torch.ones(len(starts) - 1, dtype=torch.bool)
    kept[up] = False
    assert torch.equal(starts[1:][kept], ends[:-1][kept])
    assert (ends < starts).all()
    assert set(grid.tolist()) <= {*starts.tolist(), *ends.tolist()}


def test_intervals_are_scaled_to_the_range_of_the_data():
    # The data of VE are in [0, 1].
    grid = time_grid(VE, 30, "karras", torch.device("cpu"))
    starts, ends = Restart(steps=30, intervals="1.00-2.00:2x1").path(VE, grid)
    jump = int((starts[1:] > ends[:-1]).nonzero()[0, 0])
    assert float(ratio(VE, starts[jump + 1])) == pytest.approx(1.0)


def test_an_interval_between_two_steps_is_refused():
    with pytest.raises(UsageError, match="no step ends within"):
        ggf_cli.sample(gaussian_model(VP), 1, solver=Restart(steps=3, intervals="18.00-19.00:2x1"))
