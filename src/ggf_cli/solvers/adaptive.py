"""The paper's adaptive solver (Algorithm 1), with a step size for each row.

From (x, t) with step size h, noise z and the reverse drift f - g^2 score:

    x'    = x + K(x, t)                          Euler–Maruyama                  (low order)
    x''   = x + [K(x, t) + K(x', t - h)] / 2     improved Euler, same z          (high order)
    delta = max(eps_abs, eps_rel max(|x'|, |x'_prev|))
    error = RMS((x'' - x') / delta)              one number a row
    error <= 1:  x <- x'', x'_prev <- x', t <- t - h                             (extrapolation)
    h <- min(t - t_eps, theta h error^-r)
    at t = t_eps:  x <- Tweedie's estimate of the clean image

Without `improved_euler` (the authors' ablation, `lamba`), K has no noise term in all of the above,
and an accepted attempt adds g(t) sqrt(h) z to the x that it keeps.

A step of this solver is one evaluation of every row. A row without the score at (x, t) is evaluated
there; a row with this score makes an attempt, which is evaluated at (x', t - h). After a rejection
x and t are unchanged, so the score is kept and the next attempt costs one evaluation, not two. A
row that has arrived at t_eps is evaluated there, and the score denoises it.

As in the paper, every attempt draws new noise, also after a rejection. So accepted noise is
conditioned on acceptance, a small bias that the published results include.

Reference: Jolicoeur-Martineau et al. 2021, arXiv:2105.14080, and the authors'
sde_sampling_torch.py.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from ggf_cli.score import ScoreFunction
from ggf_cli.sde import SDE, expand_as_batch
from ggf_cli.solvers.base import (
    NoiseFunction,
    Rows,
    fresh_rows,
    noise_where,
    option,
    reverse_increment,
    where_rows,
)
from ggf_cli.solvers.control import next_step_size, scaled_error, time_after
from ggf_cli.solvers.tolerance import Tolerances


@dataclass(frozen=True, kw_only=True)
class AdaptiveRows(Rows):
    """The rows of the adaptive solver.

    Attributes:
        h: Size of the next attempt, (B,).
        score: score(x, t), (B, *), where `known`.
        known: Whether `score` belongs to the present (x, t), (B,) bool.
        reference: x'_prev, the reference of the relative tolerance, (B, *).
    """

    h: Tensor
    score: Tensor
    known: Tensor
    reference: Tensor


@dataclass(frozen=True, kw_only=True)
class Adaptive(Tolerances[AdaptiveRows]):
    """Adaptive step-size solver for the reverse SDE with error control for each sample."""

    name: ClassVar[str] = "adaptive"
    kind: ClassVar[Literal["sde", "ode"]] = "sde"
    order: ClassVar[float | None] = 1
    evaluations: ClassVar[str] = "2, 1 more for each rejection"

    # The paper's experiments use eps_rel 0.01, 0.02, 0.05 and 0.1; the defaults are its
    # experiments.sh.
    h_init: float = option(0.01, "first step size, as a share of T", above=0, high=1, share=True)
    exponent: float = option(0.9, "r: step sizes scale with error^-r", above=0, high=10)
    safety: float = option(0.9, "theta: factor on every new step size", above=0, high=1)
    norm: str = option("l2", "error over the pixels of a sample", choices=("l2", "linf"))
    reference: str = option(
        "proposal",
        "x'_prev: the last accepted x' (paper), the state x (the authors' JAX code), or none",
        choices=("proposal", "state", "none"),
    )
    extrapolation: bool = option(True, "keep x'' (improved Euler) of an accepted attempt, not x'")
    improved_euler: bool = option(
        True, "improved Euler on drift and noise; without, on the drift, and noise is added once"
    )
    denoise: bool = option(True, "end with Tweedie's formula at t_eps")

    def start(self, x: Tensor, index: Tensor, sde: SDE) -> AdaptiveRows:
        rows = fresh_rows(x, index, sde)
        return AdaptiveRows(
            **rows,
            h=torch.full_like(rows["t"], min(self.h_init * sde.T, sde.T - sde.t_eps)),
            score=torch.zeros_like(x),
            known=torch.zeros_like(rows["done"]),
            reference=x,
        )

    def step(
        self, rows: AdaptiveRows, score: ScoreFunction, noise: NoiseFunction, sde: SDE
    ) -> AdaptiveRows:
        x, t, h, known = rows.x, rows.t, rows.h, rows.known

        # Propose. For rows without their score the result is discarded by `known`.
        z = noise_where(known, rows, noise)
        inner_z = z if self.improved_euler else torch.zeros_like(z)
        k1 = reverse_increment(sde, x, t, rows.score, h, inner_z)
        x_low = x + k1
        t_next = time_after(t, h, sde.t_eps)

        # The one evaluation: at (x', t - h) inside an attempt, else at (x, t).
        answer = score(where_rows(known, x_low, x), torch.where(known, t_next, t))

        # Estimate the error and accept or reject the attempt.
        k2 = reverse_increment(sde, x_low, t_next, answer, h, inner_z)
        difference = (k2 - k1) / 2
        error = scaled_error(
            x_low,
            difference,
            x_low if self.reference == "none" else rows.reference,
            eps_abs=self._eps_abs(sde),
            eps_rel=self.eps_rel,
            norm=self.norm,
        ).to(t.dtype)
        accepted = known & (error <= 1)
        rejected = known & ~accepted

        # Move.
        x_next = x_low + difference if self.extrapolation else x_low
        if not self.improved_euler:
            x_next = x_next + expand_as_batch(sde.diffusion(t) * torch.sqrt(h), x) * z
        x = where_rows(accepted, x_next, x)
        t = torch.where(accepted, t_next, t)
        h_next = next_step_size(h, error, t - sde.t_eps, safety=self.safety, exponent=self.exponent)
        h = torch.where(known, h_next, h)
        reference = x if self.reference == "state" else where_rows(accepted, x_low, rows.reference)
        s = where_rows(rejected, rows.score, answer)
        # The score belongs to x'. A row with another new x needs an evaluation there.
        stays_at_low = self.improved_euler and not self.extrapolation
        known = torch.ones_like(known) if stays_at_low else ~accepted

        # Finish.
        done = t <= sde.t_eps
        if self.denoise:
            done = done & known
            x = where_rows(done & ~rows.done, sde.tweedie_denoise(x, t, s), x)

        return AdaptiveRows(
            index=rows.index,
            draws=rows.draws + rows.known,
            x=x,
            t=t,
            accepted=rows.accepted + accepted,
            rejected=rows.rejected + rejected,
            done=rows.done | done,
            h=h,
            score=s,
            known=known,
            reference=reference,
        )
