"""Samplers in the form of `ggf certify`: two that are right, and the same with known mistakes."""

import math
from itertools import pairwise

import torch

from ggf_cli.sde import expand_as_batch


def times(sde, steps):
    return torch.linspace(sde.T, sde.t_eps, steps + 1, dtype=torch.float64)


def euler_maruyama(score, sde, x_T, noise, steps=200, *, factor=1.0, denoise=True):
    """Euler–Maruyama; `factor` multiplies the noise of each step."""
    x, t = x_T, times(sde, steps)
    for now, after in pairwise(t):
        h, time = now - after, now.expand(len(x))
        drift = sde.reverse_drift(x, time, score(x, time))
        spread = expand_as_batch(factor * sde.diffusion(time) * torch.sqrt(h), x)
        x = x - h * drift + spread * noise()
    last = t[-1].expand(len(x))
    return sde.tweedie_denoise(x, last, score(x, last)) if denoise else x


def without_sqrt_2(score, sde, x_T, noise, steps=200):
    return euler_maruyama(score, sde, x_T, noise, steps, factor=math.sqrt(0.5))


def without_denoising(score, sde, x_T, noise, steps=200):
    return euler_maruyama(score, sde, x_T, noise, steps, denoise=False)


def with_wrong_start(score, sde, x_T, noise, steps=200):
    return euler_maruyama(score, sde, 0.8 * x_T, noise, steps)


def multistep(score, sde, x_T, noise, steps=50, *, correct=True):
    """DPM-Solver++(2M) in steps of log(alpha / sigma)."""
    ends = sde.half_log_snr(torch.tensor([sde.T, sde.t_eps], dtype=torch.float64))
    lam = torch.linspace(float(ends[0]), float(ends[1]), steps + 1, dtype=torch.float64)
    t = sde.time_at(lam)
    alpha, sigma = sde.alpha(t), sde.sigma(t)
    x, former = x_T, None
    for i in range(steps):
        time = t[i].expand(len(x))
        clean = sde.tweedie_denoise(x, time, score(x, time))
        second = former is not None and correct
        estimate = clean + (clean - former) / 2 if second else clean
        h = lam[i + 1] - lam[i]
        x = sigma[i + 1] / sigma[i] * x - alpha[i + 1] * torch.expm1(-h) * estimate
        former = clean
    last = t[-1].expand(len(x))
    return sde.tweedie_denoise(x, last, score(x, last))


def multistep_of_first_order(score, sde, x_T, noise, steps=50):
    return multistep(score, sde, x_T, noise, steps, correct=False)


def batch_wide_step(score, sde, x_T, noise):
    """Heun on the probability flow with one step size, from the error of the whole batch."""
    x, t, h = x_T, sde.T, 0.01

    def velocity(x, t):
        time = torch.full((len(x),), t, dtype=torch.float64)
        return sde.reverse_drift(x, time, score(x, time) / 2)

    while t > sde.t_eps + 1e-12:
        h = min(h, t - sde.t_eps)
        first = velocity(x, t)
        low = x - h * first
        high = x - h / 2 * (first + velocity(low, t - h))
        error = float((high - low).abs().max()) / 0.003
        if error <= 1:
            x, t = high, t - h
        h *= min(3.0, 0.9 / math.sqrt(max(error, 1e-9)))
    last = torch.full((len(x),), sde.t_eps, dtype=torch.float64)
    return sde.tweedie_denoise(x, last, score(x, last))


def own_noise(score, sde, x_T, noise, steps=200):
    """Draws from torch's global generator."""
    return euler_maruyama(score, sde, x_T, lambda: torch.randn_like(x_T), steps)


def not_finite(score, sde, x_T, noise, steps=10):
    return euler_maruyama(score, sde, x_T, noise, steps) * torch.nan
