"""SDE-DPM-Solver++(2M): the reverse SDE with one evaluation a step.

With lambda = log(alpha / sigma), h = lambda_t - lambda_s > 0 from s to the next time t, and h' the
step before:

    D <- D_s + h / (2 h') (D_s - D_s')          the midpoint form; in the first step D_s only
    x <- (sigma_t / sigma_s) e^(-eta h) x + alpha_t (1 - e^(-(1 + eta) h)) D
         + sigma_t sqrt(1 - e^(-2 eta h)) z

eta = 1 is the reverse SDE and the published method; eta = 0 is DPM-Solver++(2M). Any eta >= 0
solves an SDE with the same marginals, of diffusion sqrt(eta) g and drift f - (1 + eta) / 2 g^2
score.

With one z a step it has strong order 1; mean and variance converge at order 2.

Reference: Lu et al. 2022, arXiv:2211.01095, appendix on SDE-DPM-Solver++; eta as in k-diffusion's
sample_dpmpp_2m_sde.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from torch import Tensor

from ggf_cli.sde import SDE
from ggf_cli.solvers.base import option
from ggf_cli.solvers.dpmpp_2m import second_order_coefficients
from ggf_cli.solvers.fixed import schedule_option, steps_option
from ggf_cli.solvers.multistep import Multistep


@dataclass(frozen=True, kw_only=True)
class DPMpp2MSDE(Multistep):
    """SDE-DPM-Solver++(2M), midpoint form."""

    name: ClassVar[str] = "dpmpp-2m-sde"
    kind: ClassVar[Literal["sde", "ode"]] = "sde"
    order: ClassVar[float | None] = 1

    # Align Your Steps, arXiv:2404.14507, table 5: the results still improve at 50 steps.
    steps: int = steps_option(50)
    schedule: str = schedule_option("logsnr")
    eta: float = option(1.0, "noise: 1 the reverse SDE, 0 the probability flow", low=0, high=100)

    def coefficients(self, sde: SDE, t: Tensor) -> Tensor:
        return second_order_coefficients(sde, t, eta=self.eta)
