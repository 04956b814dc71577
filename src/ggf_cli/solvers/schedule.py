"""Schedules: the times of a fixed number of steps.

time      equal steps in t: Song et al. 2021 and the paper
logsnr    equal steps in log(alpha / sigma): Lu et al. 2022, arXiv:2206.00927
karras    equal steps in (sigma / alpha)^(1 / 7): Karras et al. 2022, arXiv:2206.00364, eq. 5
"""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor

from ggf_cli.runtime.devices import time_dtype
from ggf_cli.sde import SDE

SCHEDULES = ("time", "logsnr", "karras")

RHO = 7.0


@lru_cache(maxsize=64)
def time_grid(sde: SDE, steps: int, schedule: str, device: torch.device) -> Tensor:
    """The times t_0 = T > t_1 > ... > t_steps = t_eps, (steps + 1,), in the dtype of times.

    Args:
        sde: The forward SDE.
        steps: Number of steps, >= 1.
        schedule: One of `SCHEDULES`.
        device: The device of the rows.
    """
    t = times_between(sde, sde.T, sde.t_eps, steps, schedule)
    return t.to(device, time_dtype(device))


def times_between(sde: SDE, start: float, end: float, steps: int, schedule: str) -> Tensor:
    """Times from start down to end, both included, (steps + 1,) float64."""
    ends = torch.tensor([start, end], dtype=torch.float64)
    fraction = torch.arange(steps + 1, dtype=torch.float64) / steps
    if schedule == "time":
        t = _between(ends, fraction)
    elif schedule == "logsnr":
        t = sde.time_at(_between(sde.half_log_snr(ends), fraction))
    else:
        # The RHO-th root of sigma / alpha, by logarithms.
        root = _between(torch.exp(-sde.half_log_snr(ends) / RHO), fraction)
        t = sde.time_at(-RHO * torch.log(root))
    # The ends exactly, without the rounding of the conversions.
    t[0], t[-1] = ends
    return t


def _between(ends: Tensor, fraction: Tensor) -> Tensor:
    return ends[0] + (ends[1] - ends[0]) * fraction
