"""DPM-Solver-12 and -23: adaptive steps in log(alpha / sigma), error control for each sample.

In y = x / alpha and l = log(alpha / sigma), with e_i = -sigma score at (y_i, l + r_i h), phi(u) =
(exp(u) - 1) / u:

    F(r, c, d) = y - exp(-l - r h) [(exp(r h) - 1) e_0 + c d]

    12    r = 0, 1/2          y_1 = F(1/2, 0, 0)
          low = F(1, 0, 0),   high = F(1, exp(h) - 1, e_1 - e_0)

    23    r = 0, 1/3, 2/3     y_1 = F(1/3, 0, 0),   y_2 = F(2/3, 2 [phi(2h/3) - 1], e_1 - e_0)
          low = F(1, 3/2 [exp(h) - 1], e_1 - e_0),   high = F(1, 3/2 [phi(h) - 1], e_2 - e_0)

    error = RMS((high - low) / max(eps_abs, eps_rel max(|low|, |low_prev|)))
    factor = 1 + atan(w_0^b_0 w_1^b_1 w_2^b_2 - 1),    w_0 = 1 / error
             (w_1 and w_2 are those of the last accepted steps)
    factor >= accept_safety:  y <- high, l <- l + h
    h <- min(h_max, h factor)

The two orders share their stages, and after a rejection e_0 is kept: `solver_order` evaluations a
step, one fewer for each rejection. With eta > 0 a step goes further than l + h and noise brings it
back (Song's ancestral step). The noise is drawn after acceptance, so acceptance does not depend on
it.

Reference: Lu et al. 2022, arXiv:2206.00927 (DPM-Solver-12 and -23); controller, eta and defaults
are those of sample_dpm_adaptive in crowsonkb/k-diffusion, there for the whole batch and without
h_max. Far above the noise level of the data the stages of a step agree for any step size, so the
error does not limit it, and a step may end at the noise level of the data without any evaluation
there: Gaussian data of deviation 0.3 got deviation 0.7 (VP to beta 20) and 108 (to beta 80). On the
embedded networks no step reaches 2.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from ggf_cli.score import ScoreFunction
from ggf_cli.sde import SDE, expand_as_batch
from ggf_cli.solvers.base import NoiseFunction, Rows, fresh_rows, option, where_rows
from ggf_cli.solvers.control import pid_factor, put_stage, scaled_error
from ggf_cli.solvers.tolerance import Tolerances, relative_tolerance


@dataclass(frozen=True, kw_only=True)
class DPMRows(Rows):
    """The rows of the adaptive DPM-Solver.

    Attributes:
        h: Size of the attempt in log(alpha / sigma), (B,).
        stage: The next stage to evaluate, (B,) int64; stage 0 is at (x, t).
        noise_hat: Predicted noise e_i of the stages 0 and 1, if evaluated, (B, 2, *).
        low_prev: Low-order result of the last accepted step, divided by alpha, (B, *).
        errors: Errors of the last two accepted steps, the latest first, (B, 2).
    """

    h: Tensor
    stage: Tensor
    noise_hat: Tensor
    low_prev: Tensor
    errors: Tensor


@dataclass(frozen=True, kw_only=True)
class DPMAdaptive(Tolerances[DPMRows]):
    """Adaptive DPM-Solver with a PID controller for the step size."""

    name: ClassVar[str] = "dpm-adaptive"
    kind: ClassVar[Literal["sde", "ode"]] = "ode"
    order: ClassVar[float | None] = 3
    evaluations: ClassVar[str] = "3 (2 at order 2), one fewer for each rejection"

    solver_order: int = option(3, "3 is DPM-Solver-23, 2 is DPM-Solver-12", low=2, high=3)
    eps_rel: float = relative_tolerance(0.05)
    eps_abs: float | None = option(
        None, "absolute tolerance, in units of x / alpha", above=0, high=1e30
    )
    h_init: float = option(0.05, "first step size, in log(alpha / sigma)", above=0, high=100)
    h_max: float = option(2.0, "largest step size, in log(alpha / sigma)", above=0, high=1e30)
    pcoeff: float = option(0.0, "proportional part of the controller", low=0, high=10)
    icoeff: float = option(1.0, "integral part of the controller", low=0, high=10)
    dcoeff: float = option(0.0, "derivative part of the controller", low=0, high=10)
    accept_safety: float = option(
        0.81, "accept an attempt unless its step should have been shorter by this", above=0, high=1
    )
    eta: float = option(0.0, "noise of a step: 0 deterministic, 1 ancestral", low=0, high=1)
    s_noise: float = option(1.0, "factor on that noise", low=0, high=10)
    denoise: bool = option(True, "end with Tweedie's formula at t_eps")

    def start(self, x: Tensor, index: Tensor, sde: SDE) -> DPMRows:
        rows = fresh_rows(x, index, sde)
        return DPMRows(
            **rows,
            h=torch.full_like(rows["t"], min(self.h_init, self.h_max)),
            stage=torch.zeros_like(index),
            noise_hat=torch.stack([torch.zeros_like(x)] * 2, 1),
            low_prev=x / expand_as_batch(sde.alpha(rows["t"]), x),
            errors=torch.zeros_like(rows["t"])[:, None].repeat(1, 2),
        )

    def step(self, rows: DPMRows, score: ScoreFunction, noise: NoiseFunction, sde: SDE) -> DPMRows:
        t, stage = rows.t, rows.stage
        e_0, e_1 = rows.noise_hat.unbind(1)

        # From level l to level l_next: the deterministic part goes to l_down, then noise is added.
        y = rows.x / expand_as_batch(sde.alpha(t), rows.x)
        l, l_end = sde.half_log_snr(t), sde.half_log_snr(torch.full_like(t, sde.t_eps))
        arrives = l + rows.h >= l_end
        l_next = torch.where(arrives, l_end, l + rows.h)
        l_down = torch.minimum(l_end, ancestral_level(l, l_next, self.eta)) if self.eta else l_next
        h = l_down - l

        def point(r: float, c: Tensor | None = None, d: Tensor | None = None) -> Tensor:
            change = expand_as_batch(torch.expm1(r * h), y) * e_0
            if c is not None and d is not None:
                change = change + expand_as_batch(c, y) * d
            return y - expand_as_batch(torch.exp(-l - r * h), y) * change

        # The evaluation of this stage.
        if self.solver_order == 3:
            y_1, y_2 = point(1 / 3), point(2 / 3, 2 * phi_minus_1(h * 2 / 3), e_1 - e_0)
            y_stage = where_rows(stage == 1, y_1, where_rows(stage == 2, y_2, y))
        else:
            y_stage = where_rows(stage == 1, point(1 / 2), y)
        # A row at the start of an attempt is evaluated at its own t, without the rounding of
        # time_at.
        t_stage = torch.where(stage == 0, t, sde.time_at(l + stage * h / self.solver_order))
        x_stage = expand_as_batch(sde.alpha(t_stage), y) * y_stage
        answer = score(x_stage, t_stage)
        e = expand_as_batch(-sde.sigma(t_stage), y) * answer

        # Estimate the error and accept or reject the attempt, if this was its last stage.
        last = stage == self.solver_order - 1
        if self.solver_order == 3:
            low = point(1, 1.5 * torch.expm1(h), e_1 - e_0)
            high = point(1, 1.5 * phi_minus_1(h), e - e_0)
        else:
            low, high = point(1), point(1, torch.expm1(h), e - e_0)
        error = scaled_error(
            low, high - low, rows.low_prev, eps_abs=self._eps_abs(sde), eps_rel=self.eps_rel
        ).to(t.dtype)
        # The first attempt has no past errors; its own error is used for these.
        first = rows.accepted + rows.rejected == 0
        past = torch.where(first[:, None], error[:, None], rows.errors)
        errors = torch.cat([error[:, None], past], 1)
        order = 1.5 if self.eta else self.solver_order
        factor = pid_factor(errors, p=self.pcoeff, i=self.icoeff, d=self.dcoeff, order=order)
        accepted = last & (factor >= self.accept_safety)
        rejected = last & ~accepted

        # Move.
        t = torch.where(accepted, torch.where(arrives, sde.t_eps, sde.time_at(l_next)), t)
        draws = rows.draws
        if self.eta:
            up = torch.sqrt((torch.exp(-2 * l_next) - torch.exp(-2 * l_down)).clamp(min=0))
            z = noise(rows.index, draws)
            high = high + expand_as_batch(self.s_noise * up, y) * z
            draws = draws + accepted
        x = where_rows(accepted, expand_as_batch(sde.alpha(t), y) * high, rows.x)

        # Finish. The first stage of a row at t_eps is its score there.
        arrived = (t <= sde.t_eps) & ~rows.done
        if self.denoise:
            arrived = arrived & (stage == 0)
            x = where_rows(arrived, sde.tweedie_denoise(x, t, answer), x)

        return rows.replace(
            draws=draws,
            x=x,
            t=t,
            accepted=rows.accepted + accepted,
            rejected=rows.rejected + rejected,
            done=rows.done | arrived,
            h=torch.where(last, (rows.h * factor).clamp(max=self.h_max), rows.h),
            stage=torch.where(accepted, 0, torch.where(rejected, 1, stage + 1)),
            noise_hat=put_stage(rows.noise_hat, stage, e),
            low_prev=where_rows(accepted, low, rows.low_prev),
            errors=where_rows(accepted, errors[:, :2], where_rows(rejected, past, rows.errors)),
        )


def phi_minus_1(u: Tensor) -> Tensor:
    """(exp(u) - 1) / u - 1, (B,) -> (B,), for u > 0."""
    return torch.expm1(u) / u - 1


def ancestral_level(l: Tensor, l_next: Tensor, eta: float) -> Tensor:
    """The level before the noise of an ancestral step from l to l_next.

    All are (B,), in log(alpha / sigma).

    With s = exp(-l), the noise has variance up^2 = eta^2 s_next^2 (1 - s_next^2 / s^2), at most
    s_next^2.
    """
    # (s_next^2 - up^2) / s_next^2
    kept = 1 - eta**2 * -torch.expm1(2 * (l - l_next))
    return l_next - torch.log(kept.clamp(min=0)) / 2
