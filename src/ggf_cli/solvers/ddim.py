"""DDIM: the deterministic sampler that keeps the predicted noise and changes the noise level.

    D   = E[x(0) | x] = (x + sigma_t^2 score) / alpha_t         predicted image
    eps = -sigma_t score                                        predicted noise
    x  <- alpha_s D + sigma_s eps                               to s = t_next

For VP this is eq. 12 of the paper with eta = 0; for VE it reads x <- D + sigma_s / sigma_t (x - D).
Either is the exponential Euler step of the probability flow ODE in log(alpha / sigma), of order 1:
DPM-Solver-1. The stochastic end of the family, eta = 1, is the solver `ancestral`.

N steps and the denoising cost N + 1 evaluations; the denoising is the step to sigma = 0, DDIM's
last. The default is 100 steps of equal length in t, the paper's linear choice of labels ("logsnr"
suits few steps better).

Reference: Song, Meng, Ermon 2021, arXiv:2010.02502, eq. 12; Lu et al. 2022, arXiv:2206.00927,
section 4.1.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from torch import Tensor

from ggf_cli.sde import SDE, expand_as_batch
from ggf_cli.solvers.base import Rows
from ggf_cli.solvers.fixed import OneEvaluationStep, steps_option


@dataclass(frozen=True, kw_only=True)
class DDIM(OneEvaluationStep[Rows]):
    """Deterministic DDIM for VP, and the same step for VE and sub-VP."""

    name: ClassVar[str] = "ddim"
    kind: ClassVar[Literal["sde", "ode"]] = "ode"
    order: ClassVar[float | None] = 1

    steps: int = steps_option(100)

    def advance(
        self, rows: Rows, score: Tensor, t_next: Tensor, z: None, sde: SDE
    ) -> tuple[Tensor, dict[str, Tensor]]:
        x, t = rows.x, rows.t
        x0_hat = sde.tweedie_denoise(x, t, score)
        noise_hat = -expand_as_batch(sde.sigma(t), x) * score
        alpha, sigma = expand_as_batch(sde.alpha(t_next), x), expand_as_batch(sde.sigma(t_next), x)
        return alpha * x0_hat + sigma * noise_hat, {}
