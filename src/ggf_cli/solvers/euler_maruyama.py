"""Euler–Maruyama on a uniform time grid: the fixed-step baseline of the paper.

    x <- x - h [f(x, t) - g(t)^2 score(x, t)] + g(t) sqrt(h) z,       h = (T - t_eps) / steps
    at t = t_eps:  x <- Tweedie's estimate of the clean image

N steps and the denoising cost N + 1 evaluations. (The authors' JAX code counts N for N - 1 steps.)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from ggf_cli.score import ScoreFunction
from ggf_cli.sde import SDE
from ggf_cli.solvers.base import (
    NoiseFunction,
    Rows,
    Solver,
    fresh_rows,
    option,
    reverse_increment,
    where_rows,
)


@dataclass(frozen=True, kw_only=True)
class EulerMaruyama(Solver):
    """Euler–Maruyama with a fixed number of equal steps in t."""

    name: ClassVar[str] = "em"
    kind: ClassVar[Literal["sde", "ode"]] = "sde"
    adaptive: ClassVar[bool] = False

    steps: int = option(1000, "number of equal steps from T to t_eps", low=1, high=1e9)
    denoise: bool = option(True, "end with Tweedie's formula at t_eps")

    def start(self, x: Tensor, index: Tensor, sde: SDE) -> Rows:
        return Rows(**fresh_rows(x, index, sde))

    def step(self, rows: Rows, score: ScoreFunction, noise: NoiseFunction, sde: SDE) -> Rows:
        x, t = rows.x, rows.t
        arrived = rows.accepted == self.steps
        answer = score(x, t)

        # A row that has arrived takes a step of size 0 here, discarded below.
        t_next = self._time(rows.accepted + 1, sde, t.dtype)
        z = noise(rows.index, rows.draws)
        moved = x + reverse_increment(sde, x, t, answer, t - t_next, z)
        accepted = rows.accepted + ~arrived

        return rows.replace(
            draws=rows.draws + ~arrived,
            x=where_rows(arrived, sde.tweedie_denoise(x, t, answer), moved),
            t=t_next,
            accepted=accepted,
            done=arrived if self.denoise else accepted == self.steps,
        )

    def expected_nfe(self) -> int:
        return self.steps + int(self.denoise)

    def _time(self, i: Tensor, sde: SDE, dtype: torch.dtype) -> Tensor:
        """Grid point i of 0..steps, (B,): T at 0, exactly t_eps from `steps` on."""
        t = sde.T - (sde.T - sde.t_eps) * i.to(dtype) / self.steps
        return torch.where(i >= self.steps, sde.t_eps, t)
