"""A stand-in for k-diffusion: functions of its signatures, right ones and wrong ones.

`sampling_source` is the text of its module `sampling`, which takes `append_dims` from `utils`.
"""

import inspect
from itertools import pairwise

import torch

IMPORTS = "from itertools import pairwise\n\nimport torch\n\nfrom . import utils\n\n\n"


def sample_euler(model, x, sigmas, extra_args=None, callback=None, disable=None, s_churn=0.0):
    """Euler on the probability flow; its noise has no effect without `s_churn`."""
    for sigma, sigma_next in pairwise(sigmas):
        gamma = min(s_churn / (len(sigmas) - 1), 0.4)
        raised = sigma * (1 + gamma)
        x = x + torch.randn_like(x) * (raised**2 - sigma**2).sqrt()
        level = raised * x.new_ones(len(x))
        slope = (x - model(x, level)) / utils.append_dims(level, x.ndim)  # noqa: F821
        x = x + slope * (sigma_next - raised)
    return x


def sample_ancestral(model, x, sigmas, disable=None, eta=1.0, factor=1.0, noise_sampler=None):
    """Euler to a lower level, and noise to the next one; `factor` multiplies the noise."""
    if noise_sampler is None:
        noise_sampler = lambda sigma, sigma_next: torch.randn_like(x)
    for sigma, sigma_next in pairwise(sigmas):
        up = eta * sigma_next * (1 - (sigma_next / sigma) ** 2).sqrt()
        down = (sigma_next**2 - up**2).clamp(min=0).sqrt()
        slope = (x - model(x, sigma * x.new_ones(len(x)))) / sigma
        x = x + slope * (down - sigma)
        if sigma_next > 0:
            x = x + factor * up * noise_sampler(sigma, sigma_next)
    return x


def sample_without_sqrt_2(model, x, sigmas, disable=None, noise_sampler=None):
    """A known mistake: the noise of each step has half its variance."""
    half = 0.5**0.5
    return sample_ancestral(model, x, sigmas, factor=half, noise_sampler=noise_sampler)


def sample_of_batch(model, x, sigma_min, sigma_max, *, disable=None, rtol=0.5):
    """Euler with a step that depends on the whole batch; it stops at sigma_min."""
    sigma = sigma_max
    while sigma > sigma_min:
        slope = (x - model(x, sigma * x.new_ones(len(x)))) / sigma
        after = max(sigma * (1 - min(rtol, 0.1 / float(slope.abs().max()))), sigma_min)
        x = x + slope * (after - sigma)
        sigma = after
    return x


def sample_fast(model, x, sigma_min, sigma_max, n, disable=None):
    """Euler with n evaluations, the last at sigma_min."""
    ends = torch.tensor([sigma_max, sigma_min], dtype=torch.float64).log()
    sigmas = torch.linspace(float(ends[0]), float(ends[1]), n, dtype=torch.float64).exp()
    return sample_euler(model, x, torch.cat([sigmas, torch.zeros(1)]))


def sample_endless(model, x, sigmas, disable=None):
    while True:
        model(x, sigmas[0] * x.new_ones(len(x)))


def sample_picky(model, x, sigmas, disable=None, kind="a"):
    if kind != "a":
        raise ValueError("kind must be 'a'")
    return sample_euler(model, x, sigmas)


def sample_other(score, times):
    """Not a sampler of this signature."""


def sampling_source():
    """The text of a module with these functions."""
    functions = [value for key, value in globals().items() if key.startswith("sample_")]
    return IMPORTS + "\n\n".join(map(inspect.getsource, functions))
