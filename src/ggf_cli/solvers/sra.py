"""SRA1 and SRA3: Rößler's adaptive Runge–Kutta schemes for additive noise, strong order 1.5.

With the reverse drift F = f - g^2 score, W the increment of the Brownian path over the step, J the
average of the path over the step, relative to its start (I_(1,0) / h in the literature), and g_i =
g(t - c1_i h):

    k_i   = F(x - h sum_j a_ij k_j + J sum_j b_ij g_j, t - c0_i h)
    x'    = x - h sum_i alpha_i k_i + W sum_i beta1_i g_i + J sum_i beta2_i g_i
    E     = |h sum_i w_i k_i| + |J sum_i beta2_i g_i|
    error = RMS(E / max(eps_abs, eps_rel max(|x'|, |x|)))
    error <= 1:  x <- x', t <- t - h
    h <- min(t - t_eps, theta h error^-2/3)

This is the natural embedding: without the terms in J, and with other weights of the drift, the same
stages give a scheme of order 1.0. Here those weights are Euler's, w = alpha - (1, 0, ..), and E is
of order h^3/2, hence the exponent. With `estimate` "sum" w = (1, 1, ..), as in
DifferentialEquations.jl, with which the paper found such schemes 6 to 8 times slower than
Euler–Maruyama: then E is not a difference but the drift times the number of stages, and limits the
length of every step.

After a rejection k_0 is kept, so the next attempt costs one evaluation less, and the Brownian path
is kept: (W, J) over the length of the attempt is stored, and a shorter attempt draws its part
conditionally on it. So acceptance does not select the noise. (Rackauckas and Nie keep a stack of
all drawn points. Here the whole drawn span is kept, not the points inside it that a second
rejection has used.)

Reference: Rößler 2010, SIAM J. Numer. Anal. 48(3), the sign of SRA3's beta2 from the order
conditions; Rackauckas and Nie 2017, doi 10.3934/dcdsb.2017133, and sra.jl of
SciML/StochasticDiffEq.jl.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal, NamedTuple

import torch
from torch import Tensor

from ggf_cli.score import ScoreFunction
from ggf_cli.sde import SDE
from ggf_cli.solvers.base import NoiseFunction, Rows, fresh_rows, option, where_rows
from ggf_cli.solvers.brownian import Span, extend, times, where_span
from ggf_cli.solvers.control import (
    Coefficients,
    coefficients,
    next_step_size,
    put_stage,
    scaled_error,
    time_after,
    weighted_sum,
)
from ggf_cli.solvers.tolerance import Tolerances

# 1 / (order of the embedded scheme + 1/2)
EXPONENT = 2 / 3


class Tableau(NamedTuple):
    """Rößler's coefficients of S stages: a, b (S, S) and c0, c1, alpha, beta1, beta2 (S,)."""

    a: Coefficients
    b: Coefficients
    c0: tuple[float, ...]
    c1: tuple[float, ...]
    alpha: tuple[float, ...]
    beta1: tuple[float, ...]
    beta2: tuple[float, ...]


@dataclass(frozen=True, kw_only=True)
class SRARows(Rows):
    """The rows of an SRA scheme.

    Attributes:
        h: Size of the attempt, (B,).
        stage: The next stage to evaluate, (B,) int64; stage 0 is at (x, t).
        k: Drift at the stages, if evaluated, (B, S, *).
        seen_h: Length of the path ahead that rejected attempts have drawn, (B,).
        seen_w: Increment of this part, (B, *).
        seen_j: Average of this part, (B, *).
    """

    h: Tensor
    stage: Tensor
    k: Tensor
    seen_h: Tensor
    seen_w: Tensor
    seen_j: Tensor


@dataclass(frozen=True, kw_only=True)
class SRA(Tolerances[SRARows]):
    """An SRA scheme with adaptive steps; subclasses set the tableau."""

    kind: ClassVar[Literal["sde", "ode"]] = "sde"
    order: ClassVar[float | None] = 1.5
    tableau: ClassVar[Tableau]

    h_init: float = option(0.01, "first step size, as a share of T", above=0, high=1, share=True)
    safety: float = option(0.9, "theta: factor on every new step size", above=0, high=1)
    estimate: str = option(
        "euler",
        "drift's error: difference to Euler's, or the sum of the stages (DifferentialEquations.jl)",
        choices=("euler", "sum"),
    )
    denoise: bool = option(True, "end with Tweedie's formula at t_eps")

    def start(self, x: Tensor, index: Tensor, sde: SDE) -> SRARows:
        rows = fresh_rows(x, index, sde)
        return SRARows(
            **rows,
            h=torch.full_like(rows["t"], min(self.h_init * sde.T, sde.T - sde.t_eps)),
            stage=torch.zeros_like(index),
            k=torch.stack([torch.zeros_like(x)] * len(self.tableau.alpha), 1),
            seen_h=torch.zeros_like(rows["t"]),
            seen_w=torch.zeros_like(x),
            seen_j=torch.zeros_like(x),
        )

    def step(self, rows: SRARows, score: ScoreFunction, noise: NoiseFunction, sde: SDE) -> SRARows:
        x, t, h, stage = rows.x, rows.t, rows.h, rows.stage
        first, last = stage == 0, stage == len(self.tableau.alpha) - 1
        t_next = time_after(t, h, sde.t_eps)

        # The path of the attempt, the same at all its stages.
        seen = Span(rows.seen_h, rows.seen_w, rows.seen_j)
        z_1, z_2 = noise(rows.index, rows.draws), noise(rows.index, rows.draws + 1)
        path, seen_after, ahead = extend(seen, h, z_1, z_2)

        # The evaluation of this stage.
        c0, c1, alpha, beta1, beta2 = (coefficients((v,), t) for v in self.tableau[2:])
        a, b = (coefficients(table, t)[stage] for table in self.tableau[:2])
        g = sde.diffusion(t[:, None] - c1 * h[:, None])
        x_stage = x - times(h, weighted_sum(a, rows.k)) + times(weighted_sum(b, g), path.j)
        # At t_eps h is 0, and the average over a step of size 0 is NaN.
        x_stage = where_rows(first, x, x_stage)
        t_stage = t - c0[0, stage] * h
        answer = score(x_stage, t_stage)
        k = put_stage(rows.k, stage, sde.reverse_drift(x_stage, t_stage, answer))

        # Estimate the error and accept or reject the attempt, if this was its last stage.
        correction = times(weighted_sum(beta2, g), path.j)
        x_next = (
            x
            - times(h, weighted_sum(alpha, k))
            + times(weighted_sum(beta1, g), path.w)
            + correction
        )
        drift_error = times(h, weighted_sum(coefficients((self._error_weights,), t), k))
        error = scaled_error(
            x_next,
            drift_error.abs() + correction.abs(),
            x,
            eps_abs=self._eps_abs(sde),
            eps_rel=self.eps_rel,
        ).to(t.dtype)
        accepted = last & (error <= 1)
        rejected = last & ~accepted

        # Move.
        x = where_rows(accepted, x_next, x)
        t = torch.where(accepted, t_next, t)
        h_next = next_step_size(h, error, t - sde.t_eps, safety=self.safety, exponent=EXPONENT)
        left = where_span(accepted, ahead, where_span(rejected, seen_after, seen))

        # Finish. A row at t_eps asks for its first stage, which is its score.
        arrived = (t <= sde.t_eps) & ~rows.done
        if self.denoise:
            arrived = arrived & first
            x = where_rows(arrived, sde.tweedie_denoise(x, t, answer), x)

        return rows.replace(
            draws=rows.draws + 2 * last,
            x=x,
            t=t,
            accepted=rows.accepted + accepted,
            rejected=rows.rejected + rejected,
            done=rows.done | arrived,
            h=torch.where(last, h_next, h),
            stage=torch.where(accepted, 0, torch.where(rejected, 1, stage + 1)),
            k=k,
            seen_h=left.h,
            seen_w=left.w,
            seen_j=left.j,
        )

    @property
    def _error_weights(self) -> tuple[float, ...]:
        alpha = self.tableau.alpha
        return (1.0,) * len(alpha) if self.estimate == "sum" else (alpha[0] - 1, *alpha[1:])


@dataclass(frozen=True, kw_only=True)
class SRA1(SRA):
    """Rößler's SRA1: two stages, of order 2 without noise."""

    name: ClassVar[str] = "sra1"
    evaluations: ClassVar[str] = "2, 1 for each rejection"
    tableau: ClassVar[Tableau] = Tableau(
        a=((0, 0), (3 / 4, 0)),
        b=((0, 0), (3 / 2, 0)),
        c0=(0, 3 / 4),
        c1=(1, 0),
        alpha=(1 / 3, 2 / 3),
        beta1=(1, 0),
        beta2=(-1, 1),
    )


@dataclass(frozen=True, kw_only=True)
class SRA3(SRA):
    """Rößler's SRA3: three stages, of order 3 without noise."""

    name: ClassVar[str] = "sra3"
    evaluations: ClassVar[str] = "3, 2 for each rejection"
    tableau: ClassVar[Tableau] = Tableau(
        a=((0, 0, 0), (1, 0, 0), (1 / 4, 1 / 4, 0)),
        b=((0, 0, 0), (0, 0, 0), (1, 1 / 2, 0)),
        c0=(0, 1, 1 / 2),
        c1=(1, 0, 0),
        alpha=(1 / 6, 1 / 6, 2 / 3),
        beta1=(1, 0, 0),
        beta2=(-1, 1, 0),
    )
