"""Ancestral sampling: DDPM's step, with the denoised image in place of the true one.

With D = E[x(0) | x_t] in the place of x(0), and the forward kernel x_t ~ N(a x_s, v) from
s = t_next to t,

    q(x_s | x_t, D) = N(mean, v sigma_s^2 / sigma_t^2)
    mean            = alpha_s v / sigma_t^2 D + a sigma_s^2 / sigma_t^2 x_t

    x <- [x + v score(x, t)] / a + sqrt(v) sigma_s / sigma_t z          variance "posterior"
    x <- [x + v score(x, t)] / a + sqrt(v) z                            variance "forward"

The means are equal, since D = (x + sigma_t^2 score) / alpha_t. The two variances are the lower and
the upper bound (Ho et al., section 3.2; "fixed_small" and "fixed_large" in diffusers). Song's
ancestral sampler takes the posterior's for VE and the forward one for VP. This form holds for VE,
VP and sub-VP.

N steps and the denoising cost N + 1 evaluations. (DDPM and Song's code count the denoising as the
last of their N steps: ask for N - 1.)

Reference: Ho et al. 2020, arXiv:2006.11239, eqs. 6, 7, 11; Song et al. 2021, arXiv:2011.13456,
appendix F.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from ggf_cli.sde import SDE, expand_as_batch
from ggf_cli.solvers.base import Rows, forward_kernel, option
from ggf_cli.solvers.fixed import OneEvaluationStep


@dataclass(frozen=True, kw_only=True)
class Ancestral(OneEvaluationStep[Rows]):
    """The ancestral sampler of DDPM and SMLD."""

    name: ClassVar[str] = "ancestral"
    kind: ClassVar[Literal["sde", "ode"]] = "sde"
    order: ClassVar[float | None] = 1

    variance: str = option(
        "posterior",
        "of the noise: that of q(x_next | x, x0), or the larger one of the forward step",
        choices=("posterior", "forward"),
    )

    def advance(
        self, rows: Rows, score: Tensor, t_next: Tensor, z: Tensor, sde: SDE
    ) -> tuple[Tensor, dict[str, Tensor]]:
        x, t = rows.x, rows.t
        a, v = forward_kernel(sde, t, t_next)
        mean = expand_as_batch(1 / a, x) * x + expand_as_batch(v / a, x) * score
        noise_scale = torch.sqrt(v)
        if self.variance == "posterior":
            noise_scale = noise_scale * sde.sigma(t_next) / sde.sigma(t)
        return mean + expand_as_batch(noise_scale, x) * z, {}
