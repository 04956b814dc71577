"""Trajectories: states and denoised estimates of samples at a few noise levels."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Collection
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from ggf_cli.engine import Engine, FinishedSample, Outcome, Step
from ggf_cli.results import Trajectory
from ggf_cli.scalars import as_int
from ggf_cli.solvers.schedule import times_between

MOST = 10_000


@dataclass
class _Track:
    """The levels of one sample that it has reached."""

    x: list[Tensor] = field(default_factory=list)
    t: list[float] = field(default_factory=list)
    denoised: list[Tensor] = field(default_factory=list)


class TrajectoryRecorder:
    """Record the trajectories of samples while an engine runs; give it as `on_step`.

    The noise levels are equally spaced in log(alpha / sigma) from T to t_eps. A state is recorded
    when the sample has reached the level or has stepped beyond it, a denoised estimate when the
    network was evaluated there; nothing is evaluated for the recording. The first state is that at
    T, the last one the finished sample.

    Args:
        engine: The engine that runs.
        levels: Number of noise levels, 2..10,000.
        indices: The samples to record; None: all.

    Raises:
        UsageError: The number of levels is out of range.
    """

    def __init__(self, engine: Engine, levels: int, indices: Collection[int] | None = None) -> None:
        count = as_int(levels, "`trajectory`", low=2, high=MOST)
        sde = engine.model.sde
        times = times_between(sde, sde.T, sde.t_eps, count - 1, "logsnr")
        self._times: list[float] = times.tolist()
        self._prior, self._device = engine.prior, torch.device(engine.model.device)
        self._indices = indices
        self._tracks: dict[int, _Track] = {}

    def __call__(self, step: Step) -> None:
        """Record the rows that have reached further levels."""
        index = step.index.tolist()
        rows = [r for r, i in enumerate(index) if self._indices is None or i in self._indices]
        self._open([index[row] for row in rows])
        times, evaluated = step.t.tolist(), step.evaluated_t.tolist()
        denoised: Tensor | None = None
        for row in rows:
            track = self._tracks[index[row]]
            if (reached := self._levels_at(times[row]) - len(track.x)) > 0:
                track.x += [step.x[row].cpu()] * reached
                track.t += [times[row]] * reached
            if (reached := self._levels_at(evaluated[row]) - len(track.denoised)) > 0:
                denoised = step.denoised if denoised is None else denoised
                track.denoised += [denoised[row].cpu()] * reached

    def finish(self, finished: FinishedSample) -> FinishedSample:
        """The sample with its trajectory, if it was recorded."""
        track = self._tracks.pop(finished.index, None)
        if track is None:
            return finished
        count = len(self._times)
        # Levels that a sample without the end has not reached are NaN.
        done = finished.outcome is Outcome.DONE
        end = finished.x if done else torch.full_like(finished.x, torch.nan)
        if done:
            # The last state is the sample, after the denoising at t_eps.
            del track.x[count - 1 :], track.t[count - 1 :], track.denoised[count - 1 :]
        missing = count - len(track.x)
        times = track.t + [finished.t if done else torch.nan] * missing
        trajectory = Trajectory(
            x=torch.stack(track.x + [end] * missing),
            denoised=torch.stack(track.denoised + [end] * (count - len(track.denoised))),
            t=torch.tensor(times, dtype=torch.float64),
        )
        return replace(finished, trajectory=trajectory)

    def _open(self, indices: list[int]) -> None:
        """Start the tracks of new samples with their states at T."""
        if new := [index for index in indices if index not in self._tracks]:
            states = self._prior(torch.tensor(new, device=self._device)).cpu()
            for index, state in zip(new, states, strict=True):
                self._tracks[index] = _Track(x=[state], t=[self._times[0]])

    def _levels_at(self, t: float) -> int:
        """The number of levels at or above time t."""
        return bisect_right(self._times, -t, key=lambda time: -time)
