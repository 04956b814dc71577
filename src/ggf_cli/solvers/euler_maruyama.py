"""Euler–Maruyama: the fixed-step baseline of the paper.

    x <- x - h [f(x, t) - g(t)^2 score(x, t)] + g(t) sqrt(h) z

N steps and the denoising cost N + 1 evaluations. (The authors' JAX code counts N for N - 1 steps.)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from torch import Tensor

from ggf_cli.sde import SDE
from ggf_cli.solvers.base import Rows, reverse_increment
from ggf_cli.solvers.fixed import OneEvaluationStep


@dataclass(frozen=True, kw_only=True)
class EulerMaruyama(OneEvaluationStep[Rows]):
    """Euler–Maruyama with a fixed number of steps."""

    name: ClassVar[str] = "em"
    kind: ClassVar[Literal["sde", "ode"]] = "sde"
    order: ClassVar[float | None] = 1

    def advance(
        self, rows: Rows, score: Tensor, t_next: Tensor, z: Tensor, sde: SDE
    ) -> tuple[Tensor, dict[str, Tensor]]:
        return rows.x + reverse_increment(sde, rows.x, rows.t, score, rows.t - t_next, z), {}
