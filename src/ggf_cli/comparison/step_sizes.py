"""Accepted step sizes of samples, and their quantiles over time."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor

from ggf_cli.trace import Trace

BINS = 40
# Bins with fewer steps are left out.
MIN_STEPS = 3
QUANTILES = {"p10": 0.1, "p50": 0.5, "p90": 0.9}


def steps_of(trace: Trace) -> tuple[Tensor, Tensor]:
    """Return t at the start of each step and its size h, (K,) float32 each.

    Steps from data to noise, as in the solver restart, are left out.
    """
    pairs = [(t, t - after) for times in trace.times.values() for t, after in pairwise(times)]
    down = [(t, h) for t, h in pairs if h > 0]
    t, h = torch.tensor(down, dtype=torch.float32).reshape(-1, 2).T
    return t, h


def summary(t: Tensor, h: Tensor) -> dict[str, list[float]] | None:
    """Compute quantiles of the step size in bins of t.

    Args:
        t: Time at the start of each step, (K,), in [0, 1].
        h: Size of each step, (K,).

    Returns:
        {"t": bin centres, descending, "p10", "p50", "p90"}; None without a bin of MIN_STEPS steps.
    """
    bins = (t * BINS).long().clamp(max=BINS - 1)
    result: dict[str, list[float]] = {"t": [], **{name: [] for name in QUANTILES}}
    for number in range(BINS - 1, -1, -1):
        here = h[bins == number]
        if len(here) < MIN_STEPS:
            continue
        result["t"].append((number + 0.5) / BINS)
        for name, q in QUANTILES.items():
            result[name].append(float(here.quantile(q)))
    return result if result["t"] else None
