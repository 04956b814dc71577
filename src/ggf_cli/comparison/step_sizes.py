"""Percentiles of the step sizes of a solver, by time."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise

import torch

BINS = 40
# A bin with fewer steps is left out.
MIN_STEPS = 3
QUANTILES = {"p10": 0.1, "p50": 0.5, "p90": 0.9}


def step_size_percentiles(step_times: Iterable[Sequence[float]]) -> dict[str, list[float]] | None:
    """Percentiles of the step size in bins of t; None without steps.

    Args:
        step_times: The step times of some samples, from T to the end. Steps towards more noise, as
            `restart` makes, are left out.

    Returns:
        {"t": bin centres, falling, "p10", "p50", "p90"}.
    """
    pairs = [(t, t - after) for times in step_times for t, after in pairwise(times)]
    steps = torch.tensor([(t, h) for t, h in pairs if h > 0], dtype=torch.float32)
    t, h = steps.reshape(-1, 2).T
    # The largest time is T.
    end = float(t.max()) if len(t) else 1.0
    bins = (t / end * BINS).long().clamp(max=BINS - 1)
    result: dict[str, list[float]] = {"t": [], **{name: [] for name in QUANTILES}}
    for number in range(BINS - 1, -1, -1):
        sizes = h[bins == number]
        if len(sizes) < MIN_STEPS:
            continue
        result["t"].append((number + 0.5) / BINS * end)
        for name, q in QUANTILES.items():
            result[name].append(float(sizes.quantile(q)))
    return result if result["t"] else None
