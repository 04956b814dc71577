"""UniPC: predictor and corrector of the probability flow from the same evaluation, one a step.

With lambda = log(alpha / sigma), a step of size h in lambda from s to t, and the data prediction D
known at s and at other points, r_j steps away from s:

    x_t = (sigma_t / sigma_s) x_s + alpha_t {m_0 D_s + sum_j w_j (D_j - D_s)}
    sum_j w_j r_j^n = m_n,    m_0 = 1 - e^-h,    m_n = 1 - n m_{n-1} / h
    (m_n is the integral of e^(-h(1-r)) r^n h dr over [0, 1])

The predictor of order p uses the p - 1 points before s. The evaluation at the predicted x_t adds
the point r = 1, and the corrector repeats the step with it. The next step starts from the corrected
state without another evaluation: D remains that of the predicted state. With one point only, w =
B(h) / (2 r), B(h) = h ("bh1") or 1 - e^-h ("bh2"); the variants differ in this only. (The paper's
rho_j is -r_j w_j / B(h).)

UniPC-p has order p + 1. By default the order of a step is at most the number of evaluations left,
its own and the denoising included. That makes runs of few steps stable, and loses the high order in
the limit of many steps.

Reference: Zhao et al. 2023, arXiv:2302.04867, section 3, and the authors' uni_pc.py.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
import torch
from torch import Tensor

from ggf_cli.sde import SDE
from ggf_cli.solvers.base import fresh_rows, option
from ggf_cli.solvers.fixed import schedule_option, steps_option
from ggf_cli.solvers.multistep import (
    Multistep,
    MultistepRows,
    combine,
    line_of,
    no_data,
    remember,
)


@dataclass(frozen=True, kw_only=True)
class UniPCRows(MultistepRows):
    """The rows of UniPC.

    Attributes:
        origin: The corrected state that the last step started from, (B, *).
    """

    origin: Tensor


@dataclass(frozen=True, kw_only=True)
class UniPC(Multistep):
    """UniPC with data prediction."""

    name: ClassVar[str] = "unipc"
    kind: ClassVar[Literal["sde", "ode"]] = "ode"
    # solver_order + 1 without lower_order_final
    order: ClassVar[float | None] = 2

    steps: int = steps_option(20)
    schedule: str = schedule_option("logsnr")
    # Order 3, logsnr, lower_order_final: the authors' default_cifar10_configs.py. They take bh1 at
    # 10 steps; diffusers recommends it below 10, and bh2 otherwise.
    solver_order: int = option(3, "order of the predictor", low=1, high=3)
    variant: str = option("bh2", "B(h); bh1 may be better below 10 steps", choices=("bh1", "bh2"))
    lower_order_final: bool = option(True, "no order above the number of evaluations left")

    def start(self, x: Tensor, index: Tensor, sde: SDE) -> UniPCRows:
        return UniPCRows(**fresh_rows(x, index, sde), data=no_data(x, self.solver_order), origin=x)

    def advance(
        self, rows: MultistepRows, score: Tensor, t_next: Tensor, z: None, sde: SDE
    ) -> tuple[Tensor, dict[str, Tensor]]:
        assert isinstance(rows, UniPCRows)
        corrector, predictor = line_of(self, rows, sde).unbind(1)
        data = remember(rows, score, sde)
        x = combine(corrector, rows.origin, data)
        return combine(predictor, x, data), {"data": data[:, :-1], "origin": x}

    def coefficients(self, sde: SDE, t: Tensor) -> Tensor:
        """The coefficients a, b_0 ... b_p of corrector and predictor, (steps, 2, p + 2)."""
        steps = len(t) - 1
        alpha, sigma, lambda_ = (f(t).numpy() for f in (sde.alpha, sde.sigma, sde.half_log_snr))

        def step(k: int, others: list[int], newest: int) -> np.ndarray:
            """Coefficients of D_newest, ... of the step from k to k + 1, with D_k and `others`."""
            h = lambda_[k + 1] - lambda_[k]
            w = self._weights(h, (lambda_[others] - lambda_[k]) / h)
            line = np.zeros(self.solver_order + 2)
            line[0] = sigma[k + 1] / sigma[k]
            line[1 + newest - k] = alpha[k + 1] * (-math.expm1(-h) - w.sum())
            line[[1 + newest - j for j in others]] = alpha[k + 1] * w
            return line

        as_it_is = np.eye(1, self.solver_order + 2)[0]
        table = []
        for k in range(steps):
            past = [k - j for j in range(1, self._order_of(k))]
            before = [k - 1 - j for j in range(1, self._order_of(k - 1))]
            corrector = step(k - 1, [k, *before], k) if k > 0 else as_it_is
            table.append([corrector, step(k, past, k)])
        return torch.from_numpy(np.array(table))

    def _order_of(self, k: int) -> int:
        """The order of step k: limited by the past values and by the evaluations left."""
        evaluations_left = (
            self.nfe_of(self._steps) - k if self.lower_order_final else self.solver_order
        )
        return min(self.solver_order, k + 1, evaluations_left)

    def _weights(self, h: float, r: np.ndarray) -> np.ndarray:
        """The weights w_j of the points r_j."""
        m = [-math.expm1(-h)]
        if len(r) == 1:
            return (h if self.variant == "bh1" else m[0]) / (2 * r)
        for n in range(1, len(r) + 1):
            m.append(1 - n * m[-1] / h)
        powers = r ** np.arange(1, len(r) + 1)[:, None]
        return np.linalg.solve(powers, np.array(m[1:]))
