"""Step sizes of some samples: at which t a step was made, and how long it was."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor

from ggf_cli.trace import Trace

BINS = 40
LEAST = 3  # steps in a bin that is shown
QUANTILES = {"p10": 0.1, "p50": 0.5, "p90": 0.9}


def steps_of(trace: Trace) -> tuple[Tensor, Tensor]:
    """t at the start of each step and its size h, (K,) each; ways back up, as of restart, are no steps."""
    pairs = [(t, t - after) for times in trace.times.values() for t, after in pairwise(times)]
    down = [(t, h) for t, h in pairs if h > 0]
    t, h = torch.tensor(down, dtype=torch.float32).reshape(-1, 2).T
    return t, h


def summary(t: Tensor, h: Tensor) -> dict[str, list[float]] | None:
    """Quantiles of h in bins of t, both (K,): {"t": falling bin centres, "p10", "p50", "p90"}; None without steps."""
    bins = (t * BINS).long().clamp(max=BINS - 1)
    result: dict[str, list[float]] = {"t": [], **{name: [] for name in QUANTILES}}
    for number in range(BINS - 1, -1, -1):
        here = h[bins == number]
        if len(here) < LEAST:
            continue
        result["t"].append((number + 0.5) / BINS)
        for name, q in QUANTILES.items():
            result[name].append(float(here.quantile(q)))
    return result if result["t"] else None
