"""Heun's method of EDM: second order on the probability flow ODE, with optional noise ("churn").

In y = x / alpha and s = sigma / alpha, where the ODE is dy/ds = eps(x, t) = -sigma(t) score(x, t):

    churn    s^ = s (1 + gamma);  y^ = y + sqrt(s^2^ - s^2) s_noise z     where s_min <= s <= s_max
    Euler    y' = y^ + (s_next - s^) eps
    Heun     y  = y^ + (s_next - s^) (eps + eps') / 2
    at t = t_eps:  x <- Tweedie's estimate of the clean image        (EDM's last step, to s = 0)

    gamma = min(s_churn / (steps + 1), sqrt(2) - 1)

The same formulas serve VE, VP and sub-VP. N steps and the denoising cost 2 N + 1 evaluations.

Reference: Karras et al. 2022, arXiv:2206.00364, algorithms 1 and 2 and table 1.
"""

from __future__ import annotations

import abc
import math
from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar, Literal

import torch
from torch import Tensor

from ggf_cli.runtime.devices import time_dtype
from ggf_cli.score import ScoreFunction
from ggf_cli.sde import SDE, expand_as_batch
from ggf_cli.solvers.base import (
    NoiseFunction,
    Rows,
    forward_kernel,
    fresh_rows,
    option,
    where_rows,
)
from ggf_cli.solvers.fixed import FixedStep, schedule_option, steps_option
from ggf_cli.solvers.schedule import time_grid


@dataclass(frozen=True, kw_only=True)
class HeunRows(Rows):
    """The rows of Heun's method.

    Attributes:
        eps: The slope at (x, t), (B, *), where `second`.
        second: Whether the next evaluation is that of the second stage, (B,) bool.
    """

    eps: Tensor
    second: Tensor


@dataclass(frozen=True, kw_only=True)
class HeunPath(FixedStep[HeunRows]):
    """Heun steps along a path of times that may rise between two steps; then noise is added."""

    evaluations: ClassVar[str] = "2"

    # 35 evaluations, as in EDM's tables for 32 x 32 images.
    steps: int = steps_option(17)
    schedule: str = schedule_option("karras")
    s_noise: float = option(1.0, "scale of the added noise", above=0, high=10)

    def start(self, x: Tensor, index: Tensor, sde: SDE) -> HeunRows:
        rows = fresh_rows(x, index, sde)
        return HeunRows(**rows, eps=torch.zeros_like(x), second=torch.zeros_like(rows["done"]))

    def step(
        self, rows: HeunRows, score: ScoreFunction, noise: NoiseFunction, sde: SDE
    ) -> HeunRows:
        x, t, second = rows.x, rows.t, rows.second
        starts, ends = _path(self, sde, t.device)
        arrived = rows.accepted == len(ends)
        number = rows.accepted.clamp(max=len(ends) - 1)
        t_next = ends[number]

        # First stage: add noise if the step starts at a larger time than the last step ended.
        t_from = torch.where(second | arrived, t, starts[number])
        if self.noisy:
            z = noise(rows.index, rows.draws)
            a, v = forward_kernel(sde, t_from, t)
            noise_scale = expand_as_batch(self.s_noise * torch.sqrt(v), x)
            x = where_rows(t_from > t, expand_as_batch(a, x) * x + noise_scale * z, x)

        # The one evaluation: at the Euler point in the second stage, else at (x, t).
        x_euler = _move(sde, x, t_from, t_next, rows.eps)
        t_at = torch.where(second, t_next, t_from)
        answer = score(where_rows(second, x_euler, x), t_at)
        eps = -expand_as_batch(sde.sigma(t_at), x) * answer

        x_heun = _move(sde, x, t_from, t_next, (rows.eps + eps) / 2)
        x_end = sde.tweedie_denoise(x, t, answer)
        accepted = rows.accepted + second
        return rows.replace(
            draws=rows.draws + ~(second | arrived) if self.noisy else rows.draws,
            x=where_rows(arrived, x_end, where_rows(second, x_heun, x)),
            t=torch.where(second, t_next, t_from),
            accepted=accepted,
            done=arrived if self.denoise else accepted == len(ends),
            eps=eps,
            second=~(second | arrived),
        )

    def nfe_of(self, steps: int) -> int:
        return 2 * steps + int(self.denoise)

    @property
    @abc.abstractmethod
    def noisy(self) -> bool:
        """Whether the path rises anywhere, so that noise is needed."""

    @abc.abstractmethod
    def path(self, sde: SDE, grid: Tensor) -> tuple[Tensor, Tensor]:
        """The times at which each step starts, after adding noise, and ends, both (N,).

        Args:
            sde: The forward SDE.
            grid: The times of the schedule, (steps + 1,).
        """


@dataclass(frozen=True, kw_only=True)
class Heun(HeunPath):
    """EDM's second-order solver, deterministic unless s_churn is above 0."""

    name: ClassVar[str] = "heun"
    kind: ClassVar[Literal["sde", "ode"]] = "ode"
    order: ClassVar[float | None] = 2

    s_churn: float = option(0.0, "amount of noise to add, over all steps", low=0, high=1e9)
    s_min: float = option(0.0, "add noise only above this sigma / alpha", low=0, high=1e9)
    s_max: float | None = option(None, "add noise only below this sigma / alpha", low=0, high=1e9)

    @property
    def noisy(self) -> bool:
        return self.s_churn > 0

    def path(self, sde: SDE, grid: Tensor) -> tuple[Tensor, Tensor]:
        starts, ends = grid[:-1], grid[1:]
        if not self.noisy:
            return starts, ends
        gamma = min(self.s_churn / len(grid), math.sqrt(2) - 1)
        half_log_snr = sde.half_log_snr(starts)
        s = torch.exp(-half_log_snr)
        within = (s >= self.s_min) & (s <= (math.inf if self.s_max is None else self.s_max))
        # The network was trained up to the noise at T.
        raised = sde.time_at(half_log_snr - math.log1p(gamma)).clamp(max=sde.T)
        return torch.where(within, raised, starts), ends


@lru_cache(maxsize=64)
def _path(solver: HeunPath, sde: SDE, device: torch.device) -> tuple[Tensor, Tensor]:
    grid = time_grid(sde, solver.resolved(sde).steps, solver.schedule, torch.device("cpu"))
    starts, ends = solver.path(sde, grid)
    return starts.to(device, time_dtype(device)), ends.to(device, time_dtype(device))


def _move(sde: SDE, x: Tensor, t: Tensor, t_next: Tensor, eps: Tensor) -> Tensor:
    """An Euler step of the probability flow ODE from t to t_next, with slope eps (B, *)."""
    alpha, alpha_next = sde.alpha(t), sde.alpha(t_next)
    ds = sde.sigma(t_next) / alpha_next - sde.sigma(t) / alpha
    return expand_as_batch(alpha_next / alpha, x) * x + expand_as_batch(alpha_next * ds, x) * eps
