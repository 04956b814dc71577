"""Dormand–Prince 5(4) on the probability flow ODE, with error control for each sample.

    dx/dt = f(x, t) - g(t)^2 / 2 score(x, t) = F(x, t),          from t = T down to t_eps

    k_i   = F(x - h sum_j a_ij k_j, t - c_i h),                  i = 0..6
    x'    = the argument of k_6                                                       (order 5)
    error = RMS(h sum_i e_i k_i / (eps_abs + eps_rel max(|x|, |x'|)))           (order 5 minus 4)
    error < 1:  x <- x', t <- t - h, k_0 <- k_6
    h <- h min(10, max(0.2, 0.9 error^-1/5)), no growth straight after a rejection

k_6 is the k_0 of the next step, and after a rejection k_0 is kept: 6 evaluations an attempt. The
first step size is Hairer's: one evaluation at (x, T) and one after a small Euler step. The last
evaluation of a sample is its score at t_eps, so the denoising needs no evaluation of its own: 2 + 6
(accepted + rejected) evaluations in all.

The controller is that of scipy.integrate.solve_ivp(method="RK45"), which takes the same steps; the
default tolerances are those of Song et al. 2021, arXiv:2011.13456. Reference: Dormand and Prince
1980, J. Comput. Appl. Math. 6(1); Hairer, Nørsett and Wanner, "Solving Ordinary Differential
Equations I", sections II.4 and II.5.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from ggf_cli.score import ScoreFunction
from ggf_cli.sde import SDE, expand_as_batch
from ggf_cli.solvers.base import NoiseFunction, Rows, Solver, fresh_rows, option, where_rows
from ggf_cli.solvers.control import (
    coefficients,
    put_stage,
    time_after,
    weighted_sum,
)
from ggf_cli.solvers.reduction import root_mean_square
from ggf_cli.solvers.tolerance import relative_tolerance

# Stages of a row: 0..6 are those of an attempt; PROBE comes once, after 0.
LAST, PROBE = 6, 7

A = (
    (0, 0, 0, 0, 0, 0),
    (1 / 5, 0, 0, 0, 0, 0),
    (3 / 40, 9 / 40, 0, 0, 0, 0),
    (44 / 45, -56 / 15, 32 / 9, 0, 0, 0),
    (19372 / 6561, -25360 / 2187, 64448 / 6561, -212 / 729, 0, 0),
    (9017 / 3168, -355 / 33, 46732 / 5247, 49 / 176, -5103 / 18656, 0),
    (35 / 384, 0, 500 / 1113, 125 / 192, -2187 / 6784, 11 / 84),
    # The probe: an Euler step.
    (1, 0, 0, 0, 0, 0),
)
C = ((0,), (1 / 5,), (3 / 10,), (4 / 5,), (8 / 9,), (1,), (1,), (1,))
E = ((-71 / 57600, 0, 71 / 16695, -71 / 1920, 17253 / 339200, -22 / 525),)
E_LAST = 1 / 40

SAFETY, SHRINK, GROW = 0.9, 0.2, 10.0


@dataclass(frozen=True, kw_only=True)
class RK45Rows(Rows):
    """The rows of the Dormand–Prince solver.

    Attributes:
        h: Step size of the present attempt, or of the Euler step at stage PROBE, (B,).
        stage: The next stage to evaluate, (B,) int64.
        k: F at the stages 0..5, if evaluated, (B, 6, *).
        retry: Whether the attempt follows a rejection, (B,) bool.
    """

    h: Tensor
    stage: Tensor
    k: Tensor
    retry: Tensor


@dataclass(frozen=True, kw_only=True)
class OdeRK45(Solver[RK45Rows]):
    """Dormand–Prince 5(4) for the probability flow ODE."""

    name: ClassVar[str] = "ode-rk45"
    kind: ClassVar[Literal["sde", "ode"]] = "ode"
    adaptive: ClassVar[bool] = True
    order: ClassVar[float | None] = 5
    evaluations: ClassVar[str] = "6, also a rejected one"

    eps_rel: float = relative_tolerance(1e-5)
    eps_abs: float = option(1e-5, "absolute tolerance, in units of x", above=0, high=1e30)
    denoise: bool = option(True, "end with Tweedie's formula at t_eps")

    def start(self, x: Tensor, index: Tensor, sde: SDE) -> RK45Rows:
        rows = fresh_rows(x, index, sde)
        return RK45Rows(
            **rows,
            h=torch.full_like(rows["t"], sde.T - sde.t_eps),
            stage=torch.zeros_like(index),
            k=torch.zeros_like(x)[:, None].repeat(1, LAST, *(1,) * (x.dim() - 1)),
            retry=torch.zeros_like(rows["done"]),
        )

    def step(
        self, rows: RK45Rows, score: ScoreFunction, noise: NoiseFunction, sde: SDE
    ) -> RK45Rows:
        x, t, h, stage = rows.x, rows.t, rows.h, rows.stage
        start, last, probe = stage == 0, stage == LAST, stage == PROBE

        # The evaluation of this stage.
        t_next = time_after(t, h, sde.t_eps)
        t_stage = torch.where(last, t_next, t - coefficients(C, t)[stage, 0] * h)
        x_stage = x - expand_as_batch(h, x) * weighted_sum(coefficients(A, t)[stage], rows.k)
        answer = score(x_stage, t_stage)
        # The drift of the probability flow is that of the reverse SDE with half the score.
        slope = sde.reverse_drift(x_stage, t_stage, answer / 2)

        # Estimate the error and accept or reject the attempt, if this was its last stage.
        difference = weighted_sum(coefficients(E, t), rows.k) + E_LAST * slope
        error = self._norm(expand_as_batch(h, x) * difference, x, x_stage).to(t.dtype)
        accepted = last & (error < 1)
        rejected = last & ~accepted

        # The next step size. exp and log, not pow: see ggf_cli.solvers.control.
        factor = (SAFETY * torch.exp(torch.log(error) / -5)).clamp(SHRINK, GROW)
        factor = torch.where(accepted & rows.retry, factor.clamp(max=1.0), factor)
        remaining = torch.where(accepted, t_next, t) - sde.t_eps
        h_next = torch.where(last, h * factor, h)
        h_next = torch.where(start, self._probe_size(x, slope).to(t.dtype), h_next)
        h_next = torch.where(probe, self._first_size(x, rows.k[:, 0], slope, h), h_next)

        # Move. The score of an accepted last stage belongs to the new x.
        x = where_rows(accepted, x_stage, x)
        t = torch.where(accepted, t_next, t)
        arrived = accepted & (t <= sde.t_eps) & ~rows.done
        if self.denoise:
            x = where_rows(arrived, sde.tweedie_denoise(x, t, answer), x)
        next_stage = torch.where(last | probe, 1, stage + 1)

        return rows.replace(
            x=x,
            t=t,
            accepted=rows.accepted + accepted,
            rejected=rows.rejected + rejected,
            done=rows.done | arrived,
            h=torch.minimum(h_next, remaining),
            stage=torch.where(start, PROBE, next_stage),
            k=put_stage(rows.k, torch.where(accepted, 0, stage), slope),
            retry=torch.where(last, rejected, rows.retry),
        )

    def _norm(self, value: Tensor, x: Tensor, x_next: Tensor) -> Tensor:
        """RMS of value (B, *) in units of the tolerance at x and x_next, (B,)."""
        scale = self.eps_abs + self.eps_rel * torch.maximum(x.abs(), x_next.abs())
        return root_mean_square(value / scale)

    def _probe_size(self, x: Tensor, k_0: Tensor) -> Tensor:
        """Hairer's h_0, (B,): an Euler step that changes x by about a hundredth."""
        d_0, d_1 = self._norm(x, x, x), self._norm(k_0, x, x)
        return torch.where((d_0 < 1e-5) | (d_1 < 1e-5), 1e-6, 0.01 * d_0 / d_1)

    def _first_size(self, x: Tensor, k_0: Tensor, slope: Tensor, h_0: Tensor) -> Tensor:
        """Hairer's first step size, (B,), from the slopes (B, *) at both ends of step h_0 (B,)."""
        d_1 = self._norm(k_0, x, x).to(h_0.dtype)
        d_2 = self._norm(slope - k_0, x, x).to(h_0.dtype) / h_0
        steepest = torch.maximum(d_1, d_2)
        h_1 = torch.exp(torch.log(0.01 / steepest) / 5)
        h_1 = torch.where(steepest <= 1e-15, torch.clamp(h_0 * 1e-3, min=1e-6), h_1)
        return torch.minimum(100 * h_0, h_1)
