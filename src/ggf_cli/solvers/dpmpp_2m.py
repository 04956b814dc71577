"""DPM-Solver++(2M): the probability flow with one evaluation a step, second order.

With lambda = log(alpha / sigma), h = lambda_t - lambda_s > 0 from s to the next time t, and h' the
step before:

    D <- D_s + h / (2 h') (D_s - D_s')    data prediction, extrapolated to the middle of the step
    x <- (sigma_t / sigma_s) x + alpha_t (1 - e^-h) D

The first step uses D_s only and has order 1, which is DDIM. The denoising at t_eps is the limit of
such a step as sigma_t goes to 0.

Reference: Lu et al. 2022, arXiv:2211.01095, algorithm 2.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from ggf_cli.sde import SDE
from ggf_cli.solvers.fixed import schedule_option, steps_option
from ggf_cli.solvers.multistep import Multistep


@dataclass(frozen=True, kw_only=True)
class DPMpp2M(Multistep):
    """DPM-Solver++(2M), deterministic."""

    name: ClassVar[str] = "dpmpp-2m"
    kind: ClassVar[Literal["sde", "ode"]] = "ode"
    order: ClassVar[float | None] = 2

    # The paper's abstract: "within 15 to 20 steps".
    steps: int = steps_option(20)
    schedule: str = schedule_option("logsnr")

    def coefficients(self, sde: SDE, t: Tensor) -> Tensor:
        return second_order_coefficients(sde, t, eta=0.0)


def second_order_coefficients(sde: SDE, t: Tensor, *, eta: float) -> Tensor:
    """Coefficients of DPM-Solver++(2M) with noise eta (`dpmpp_2m_sde`), (steps, 4).

    Args:
        sde: The forward SDE.
        t: The times, (steps + 1,).
        eta: Noise: 1 the reverse SDE, 0 the probability flow.
    """
    alpha, sigma = sde.alpha(t), sde.sigma(t)
    h = sde.half_log_snr(t).diff()
    keep = sigma[1:] / sigma[:-1] * torch.exp(-eta * h)
    gain = alpha[1:] * -torch.expm1(-(1 + eta) * h)
    past = torch.cat([h.new_zeros(1), h[1:] / (2 * h[:-1])])
    noise = sigma[1:] * torch.sqrt(-torch.expm1(-2 * eta * h))
    return torch.stack([keep, gain * (1 + past), -gain * past, noise], dim=1)
