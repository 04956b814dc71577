"""Restart sampling: Heun on the probability flow ODE, with noise added again in some intervals.

    at the grid point nearest to LOW, REPEATS times:
        y <- y + sqrt(HIGH^2 - s^2) s_noise z          from s = sigma / alpha up to HIGH
        STEPS Heun steps from HIGH back to that point, on the schedule of the solver

The noise contracts the error that has built up, and the deterministic steps stay cheap. The
published intervals are for images in [-1, 1]; other data ranges scale them.

N steps, the restarts and the denoising cost 2 (N + sum STEPS REPEATS) + 1 evaluations. The authors'
code also adds EDM's churn inside the intervals, which the paper does not, and scales the noise by
1.003, which is s_noise here.

Reference: Xu et al. 2023, arXiv:2306.14878, algorithm 1 and table 3.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import ClassVar, Literal, NamedTuple

import torch
from torch import Tensor

from ggf_cli.errors import OptionError
from ggf_cli.sde import SDE
from ggf_cli.solvers.base import option
from ggf_cli.solvers.heun import HeunPath
from ggf_cli.solvers.schedule import times_between

_NUMBER = r"[0-9]+(?:\.[0-9]+)?"
_INTERVAL = rf"({_NUMBER})-({_NUMBER}):([0-9]{{1,6}})x([0-9]{{1,6}})"


class Interval(NamedTuple):
    """One restart interval, in units of sigma / alpha for data in [-1, 1]."""

    low: float
    high: float
    steps: int
    repeats: int


@dataclass(frozen=True, kw_only=True)
class Restart(HeunPath):
    """Heun's method with restarts: add noise and solve back, several times in each interval."""

    name: ClassVar[str] = "restart"
    kind: ClassVar[Literal["sde", "ode"]] = "sde"
    order: ClassVar[float | None] = None
    evaluations: ClassVar[str] = "2"

    # the authors' cheapest setting for CIFAR-10 VP: 43 evaluations
    intervals: str = option(
        "0.06-0.30:2x2",
        "LOW-HIGH:STEPSxREPEATS[,...] in sigma / alpha, for data in [-1, 1]",
        pattern=f"{_INTERVAL}(?:,{_INTERVAL})*",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        for interval in self._intervals:
            if not (0 < interval.low < interval.high and interval.steps and interval.repeats):
                raise OptionError(
                    f"intervals of solver '{self.name}' is {self.intervals!r}",
                    option="intervals",
                    hint="LOW must lie below HIGH; STEPS and REPEATS must be at least 1",
                )

    @property
    def noisy(self) -> bool:
        return True

    def nfe_of(self, steps: int) -> int:
        return super().nfe_of(steps + sum(i.steps * i.repeats for i in self._intervals))

    def path(self, sde: SDE, grid: Tensor) -> tuple[Tensor, Tensor]:
        s = torch.exp(-sde.half_log_snr(grid))
        scale = (sde.data_range[1] - sde.data_range[0]) / 2
        starts, ends = grid[:-1].tolist(), grid[1:].tolist()
        # The lowest interval first: inserting its steps does not move the steps above it.
        for low, high, steps, repeats in sorted(self._intervals):
            node = int((s[1:] - scale * low).abs().argmin()) + 1
            if scale * high <= s[node]:
                raise OptionError(
                    f"intervals of solver '{self.name}': no step ends within {low:g}-{high:g}",
                    option="intervals",
                    others=["steps"],
                    hint="more steps, or a wider interval",
                )
            t_high = float(sde.time_at(-torch.log(torch.tensor(scale * high, dtype=grid.dtype))))
            down = times_between(sde, min(t_high, sde.T), float(grid[node]), steps, self.schedule)
            starts[node:node] = down[:-1].tolist() * repeats
            ends[node:node] = down[1:].tolist() * repeats
        return grid.new_tensor(starts), grid.new_tensor(ends)

    @property
    def _intervals(self) -> list[Interval]:
        return [
            Interval(float(low), float(high), int(steps), int(repeats))
            for low, high, steps, repeats in re.findall(_INTERVAL, self.intervals)
        ]
