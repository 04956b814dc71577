"""Reverse diffusion: a step of the forward SDE, discretised and turned around.

The forward SDE carries the next, cleaner time s = t_next to t by a Gaussian,

    x_t = a x_s + sqrt(v) z,        a = alpha_t / alpha_s,      v = sigma_t^2 - a^2 sigma_s^2

and its reversal is, with the drift term a x_s - x_s taken at x_t (eq. 46),

    x <- (2 - a) x + v score(x, t) + sqrt(v) z

For VE a is 1 and v is sigma_t^2 - sigma_s^2: Song's discretisation, that of SMLD. For VP a^2 is 1 -
v: that of DDPM, with v = 1 - exp(-integral of beta from s to t) for its beta_i. Song's code takes
beta_i = beta(t) / N, to which v tends; the integral keeps the marginals exact and v below 1 in
steps of any size. For sub-VP, where Song's code falls back on Euler–Maruyama, the same formula
holds.

N steps and the denoising cost N + 1 evaluations. (Song's code counts the denoising as the last of
its N steps: ask for N - 1.)

Reference: Song et al. 2021, arXiv:2011.13456, section 4.1 and appendix E.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from ggf_cli.sde import SDE, expand_as_batch
from ggf_cli.solvers.base import Rows, forward_kernel
from ggf_cli.solvers.fixed import OneEvaluationStep


@dataclass(frozen=True, kw_only=True)
class ReverseDiffusion(OneEvaluationStep[Rows]):
    """The reverse diffusion predictor of Song et al."""

    name: ClassVar[str] = "reverse-diffusion"
    kind: ClassVar[Literal["sde", "ode"]] = "sde"
    order: ClassVar[float | None] = 1

    def advance(
        self, rows: Rows, score: Tensor, t_next: Tensor, z: Tensor, sde: SDE
    ) -> tuple[Tensor, dict[str, Tensor]]:
        x = rows.x
        a, v = forward_kernel(sde, rows.t, t_next)
        mean = expand_as_batch(2 - a, x) * x + expand_as_batch(v, x) * score
        return mean + expand_as_batch(torch.sqrt(v), x) * z, {}
