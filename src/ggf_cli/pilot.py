"""Pilot samples: the mean of the steps of a few adaptive samples is the schedule of the others.

The other samples then have no step size control of their own, and a known number of evaluations.
"""

from __future__ import annotations

from dataclasses import replace

import torch

from ggf_cli.batch_size import choose_batch_size
from ggf_cli.engine import Engine, Outcome
from ggf_cli.errors import OptionError, SolveError
from ggf_cli.scalars import as_int
from ggf_cli.score import ScoreModel
from ggf_cli.sde import SDE
from ggf_cli.solvers.adaptive_multistep import AdaptiveMultistep
from ggf_cli.solvers.base import Solver
from ggf_cli.trace import Trace

# The index of the first pilot sample: so large that a run hardly uses the same samples.
FIRST = 2**62
MOST = 1_000_000


def freeze_schedule(
    model: ScoreModel,
    solver: Solver,
    samples: int,
    *,
    seed: int = 0,
    batch_size: int | None = None,
) -> AdaptiveMultistep:
    """Draw pilot samples and return the solver with their mean schedule as `times`.

    Args:
        model: The model to sample from.
        solver: A solver with the option `times`: `AdaptiveMultistep`.
        samples: Number of pilot samples, 1..1,000,000.
        seed: The random seed. The pilot samples have the indices from 2^62 on: do not draw these
            again with the schedule that they decide.
        batch_size: Batch size; None chooses one.

    Raises:
        OptionError: The solver has no option `times`, or `times` is set already.
        UsageError: A number is out of range.
        SolveError: No pilot sample finished.
    """
    if not isinstance(solver, AdaptiveMultistep):
        raise OptionError(
            f"solver '{solver.name}' takes no frozen steps (times)",
            option="times",
            hint="use solver adaptive-multistep",
        )
    if solver.times is not None:
        raise OptionError("pilot and times exclude each other", option="pilot", others=["times"])
    indices = pilot_indices(samples)
    trace = Trace(indices, model.sde.T)
    engine = Engine(
        model,
        solver,
        seed=seed,
        batch_size=choose_batch_size(model, len(indices)) if batch_size is None else batch_size,
    )
    arrived = []
    for sample in engine.run(indices, trace.update):
        trace.finish(sample)
        if sample.outcome is Outcome.DONE:
            arrived.append(trace.times[sample.index])
    if not arrived:
        raise SolveError(f"none of {len(indices)} pilot samples reached the end, by {solver.name}")
    times = mean_schedule(model.sde, arrived)
    return replace(solver, times=tuple(times))


def pilot_indices(samples: int) -> range:
    """The sample indices of the pilot samples."""
    return range(FIRST, FIRST + as_int(samples, "the number of pilot samples", low=1, high=MOST))


def mean_schedule(sde: SDE, runs: list[list[float]]) -> list[float]:
    """The mean of several schedules, with the mean number of their steps, rounded.

    The mean is that of log(alpha / sigma), at equal shares of the steps of each schedule.

    Args:
        sde: The forward SDE.
        runs: The schedules: falling times from T to t_eps.
    """
    steps = round(sum(len(run) - 1 for run in runs) / len(runs))
    shares = torch.linspace(0, 1, steps + 1, dtype=torch.float64)
    paths = [_at(sde.half_log_snr(torch.tensor(run, dtype=torch.float64)), shares) for run in runs]
    times: list[float] = sde.time_at(torch.stack(paths).mean(0)).tolist()
    # The ends exactly, without the rounding of the two conversions.
    times[0], times[-1] = runs[0][0], runs[0][-1]
    return times


def _at(path: torch.Tensor, shares: torch.Tensor) -> torch.Tensor:
    """Interpolate a path of n steps, (n + 1,), linearly at shares of its length."""
    place = shares * (len(path) - 1)
    before = place.floor().long().clamp(max=len(path) - 2)
    return torch.lerp(path[before], path[before + 1], place - before)
