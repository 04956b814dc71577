"""A pilot: a few samples with adaptive steps, whose mean schedule the others then take without control.

What is lost is that every sample has steps of its own. What is gained is a cost that is known beforehand.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch

from ggf_cli.engine import Engine, Outcome
from ggf_cli.errors import SolveError, UsageError
from ggf_cli.sampling import choose_batch_size
from ggf_cli.score import ScoreModel
from ggf_cli.sde import SDE
from ggf_cli.trace import Trace

FIRST = 2**62  # pilot samples have indices that nobody asks for


def frozen(
    model: ScoreModel, solver: Any, samples: int, *, seed: int = 0, batch_size: int | None = None
) -> Any:
    """The solver with the mean schedule of some samples.

    Args:
        model: What to sample from.
        solver: One with an option `times`, such as `AdaptiveMultistep`.
        samples: How many.
        seed: They are no samples that a run of this seed would draw.
        batch_size: Rows per network call; None chooses.

    Raises:
        UsageError: The solver has no schedule to freeze.
        SolveError: No sample reached the end.
    """
    if not hasattr(solver, "times"):
        raise UsageError(
            f"solver '{solver.name}' takes no frozen steps (--times)",
            hint="adaptive-multistep does",
        )
    if solver.times is not None:
        raise UsageError("--pilot and --times exclude each other")
    indices = range(FIRST, FIRST + samples)
    trace = Trace(indices, model.sde.T)
    engine = Engine(
        model, solver, seed=seed, batch_size=batch_size or choose_batch_size(model, samples)
    )
    arrived = []
    for sample in engine.run(indices, trace.see):
        trace.end(sample)
        if sample.outcome is Outcome.DONE:
            arrived.append(trace.times[sample.index])
    if not arrived:
        raise SolveError(f"none of {samples} pilot samples reached the end, by {solver.name}")
    times = mean_schedule(model.sde, arrived)
    return replace(solver, times=",".join(map(repr, times)))


def mean_schedule(sde: SDE, runs: list[list[float]]) -> list[float]:
    """The mean of several schedules, with as many steps as they have on average.

    Each is a path in log(alpha / sigma) over the share of its steps that are done; the paths are averaged.

    Args:
        sde: The forward SDE.
        runs: Falling times from T to t_eps, each.
    """
    steps = round(sum(len(run) - 1 for run in runs) / len(runs))
    shares = torch.linspace(0, 1, steps + 1, dtype=torch.float64)
    paths = [_at(sde.half_log_snr(torch.tensor(run, dtype=torch.float64)), shares) for run in runs]
    times: list[float] = sde.time_at(torch.stack(paths).mean(0)).tolist()
    times[0], times[-1] = runs[0][0], runs[0][-1]  # not their rounded images
    return times


def _at(path: torch.Tensor, shares: torch.Tensor) -> torch.Tensor:
    """A path of n steps, (n + 1,), at shares of its length, linear in between."""
    place = shares * (len(path) - 1)
    before = place.floor().long().clamp(max=len(path) - 2)
    return torch.lerp(path[before], path[before + 1], place - before)
