"""The base class of solvers with a fixed number of steps: time grid, budget and denoising.

A solver with one evaluation a step is a `OneEvaluationStep` and implements `advance` only:

    answer = score(x, t)
    at t > t_eps:  x <- advance(x, t -> t_next)
    at t = t_eps:  x <- Tweedie's estimate of the clean image

A solver with several evaluations a step is a `FixedStep`, implements `start` and `step`, and keeps
the stage in its rows.
"""

from __future__ import annotations

import abc
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self, cast

from torch import Tensor

from ggf_cli.errors import OptionError
from ggf_cli.score import ScoreFunction
from ggf_cli.sde import SDE
from ggf_cli.solvers.base import NoiseFunction, Rows, RowsT, Solver, fresh_rows, option, where_rows
from ggf_cli.solvers.schedule import SCHEDULES, time_grid

STEPS_HELP = "steps from T to t_eps"
SCHEDULE_HELP = "steps equal in t, in log(alpha / sigma), or Karras' with rho 7"


def steps_option(default: int) -> Any:
    """Declare the option `steps` with the default of the solver."""
    return option(default, STEPS_HELP, low=1, high=1e9)


def schedule_option(default: str) -> Any:
    """Declare the option `schedule` with the default of the method's paper."""
    return option(default, SCHEDULE_HELP, choices=SCHEDULES)


@dataclass(frozen=True, kw_only=True)
class FixedStep(Solver[RowsT]):
    """A solver with a fixed schedule. Subclasses set the defaults of `steps` and `schedule`."""

    adaptive: ClassVar[bool] = False
    evaluations: ClassVar[str] = "1"

    steps: int = steps_option(1000)
    nfe: int | None = option(
        None, "evaluations a sample may cost; sets the steps", low=1, high=1e9, whole=True
    )
    schedule: str = schedule_option("time")
    denoise: bool = option(True, "end with Tweedie's formula at t_eps")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.nfe is not None and self.steps != type(self).steps:
            raise OptionError("steps and nfe exclude each other", option="nfe", others=["steps"])
        if self.nfe is not None and self.nfe < self.nfe_of(1):
            raise OptionError(
                f"nfe of solver '{self.name}' is {self.nfe},"
                f" its shortest run takes {self.nfe_of(1)}",
                option="nfe",
            )

    def grid(self, rows: Rows, sde: SDE) -> Tensor:
        """The times of the steps, (steps + 1,), from T to t_eps."""
        return time_grid(sde, self._steps, self.schedule, rows.t.device)

    def nfe_of(self, steps: int) -> int:
        """Evaluations of a sample with this number of steps, the denoising one included."""
        return steps + int(self.denoise)

    def expected_nfe(self) -> int:
        return self.nfe_of(self._steps)

    def resolved(self, sde: SDE) -> Self:
        return replace(self, steps=self._steps, nfe=None)

    @property
    def _steps(self) -> int:
        """The number of steps: the option `steps`, or as many as fit the budget `nfe`."""
        if self.nfe is None:
            return self.steps
        fixed = self.nfe_of(0)
        return (self.nfe - fixed) // (self.nfe_of(1) - fixed)


@dataclass(frozen=True, kw_only=True)
class OneEvaluationStep(FixedStep[RowsT]):
    """A fixed-step solver with one evaluation a step. Subclasses implement `advance`."""

    def start(self, x: Tensor, index: Tensor, sde: SDE) -> RowsT:
        # Solvers whose rows have more fields override this.
        return cast("RowsT", Rows(**fresh_rows(x, index, sde)))

    def step(self, rows: RowsT, score: ScoreFunction, noise: NoiseFunction, sde: SDE) -> RowsT:
        grid = self.grid(rows, sde)
        arrived = rows.accepted == len(grid) - 1
        answer = score(rows.x, rows.t)

        # A row that has arrived takes a step of size 0 here, which is discarded below.
        t_next = grid[(rows.accepted + 1).clamp(max=len(grid) - 1)]
        stochastic = self.kind == "sde"
        z = noise(rows.index, rows.draws) if stochastic else None
        moved, memory = self.advance(rows, answer, t_next, z, sde)
        accepted = rows.accepted + ~arrived

        return rows.replace(
            draws=rows.draws + ~arrived if stochastic else rows.draws,
            x=where_rows(arrived, sde.tweedie_denoise(rows.x, rows.t, answer), moved),
            t=t_next,
            accepted=accepted,
            done=arrived if self.denoise else accepted == len(grid) - 1,
            **memory,
        )

    @abc.abstractmethod
    def advance(
        self, rows: RowsT, score: Tensor, t_next: Tensor, z: Any, sde: SDE
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Make one step of every row, from rows.t to t_next.

        Args:
            rows: The rows; `accepted` is the number of the step, starting at 0.
            score: score(rows.x, rows.t), (B, *).
            t_next: The next time, (B,); equal to rows.t for a row that has arrived, whose result is
                discarded.
            z: Standard normal noise, (B, *); None if the solver is deterministic.
            sde: The forward SDE.

        Returns:
            The new x, (B, *), and the other fields of the rows that change.
        """
