"""ER-SDE-Solver-3: an SDE with the marginals of the reverse SDE and less noise.

It costs one evaluation a step.

With l = sigma / alpha, from l_s to the next l_t < l_s, and a noise scale function phi:

    r = phi(l_t) / phi(l_s)
    x <- (alpha_t / alpha_s) r x
         + alpha_t {(1 - r) D + [phi(l_t) S0 - (l_s - l_t)] D' + [phi(l_t) S1 + (l_s - l_t)^2 / 2]
         D''} + alpha_t sqrt(l_t^2 - r^2 l_s^2) z
    S0, S1 = integrals of 1 / phi(l) and of (l - l_s) / phi(l) from l_t to l_s

D' and D'' are backward differences of the data prediction D in l; the first step has neither, the
second no D''. phi(l) = l is the probability flow, l^2 the reverse SDE; the default is the paper's
ER SDE 5, l (exp(l^0.3) + 10). One form serves all SDEs: it is the paper's VP form, and its VE form
where alpha = 1.

As published, S0 and S1 are sums over 100 left points, and D' belongs to the middle of the last step
rather than to its end. So without noise the order is 2 (not 3) for few steps, and 1 from about 50
steps on, where the 1 % error of the sums dominates. With noise the strong order is 1, on paths of
its own SDE.

Reference: Cui et al. 2023, arXiv:2309.06169, and the authors' er_sde_solver.py, vp_3_order_taylor.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from ggf_cli.errors import OptionError
from ggf_cli.sde import SDE
from ggf_cli.solvers.base import option
from ggf_cli.solvers.fixed import schedule_option, steps_option
from ggf_cli.solvers.multistep import Multistep

POINTS = 100

NOISE_SCALES: dict[str, Callable[[Tensor], Tensor]] = {
    "er-5": lambda l: l * (torch.exp(torch.exp(0.3 * torch.log(l))) + 10),
    "sde": torch.square,
    "ode": lambda l: l,
}


@dataclass(frozen=True, kw_only=True)
class ERSDE3(Multistep):
    """ER-SDE-Solver-3."""

    name: ClassVar[str] = "er-sde-3"
    kind: ClassVar[Literal["sde", "ode"]] = "sde"
    # The order is 1 on paths of its own SDE, which are not those of the reverse SDE.
    order: ClassVar[float | None] = None
    memory: ClassVar[int] = 2

    # The paper's best FIDs have 50 evaluations; the schedule is that of the authors' generate.py.
    steps: int = steps_option(50)
    schedule: str = schedule_option("karras")
    noise_scale: str = option(
        "er-5",
        "phi: ER SDE 5 (paper), the reverse SDE, or the probability flow",
        choices=tuple(NOISE_SCALES),
    )

    def coefficients(self, sde: SDE, t: Tensor) -> Tensor:
        phi = NOISE_SCALES[self.noise_scale]
        alpha, l = sde.alpha(t), torch.exp(-sde.half_log_snr(t))
        start, end = l[:-1], l[1:]
        width = start - end
        r = phi(end) / phi(start)

        points = end[:, None] + width[:, None] * torch.arange(POINTS, dtype=l.dtype) / POINTS
        weight = width[:, None] / (POINTS * phi(points))
        s0, s1 = weight.sum(1), ((points - start[:, None]) * weight).sum(1)
        by_d1 = phi(end) * s0 - width
        by_d2 = phi(end) * s1 + width.square() / 2

        # D' = u (D_k - D_{k-1}), D'' = v (D'_k - D'_{k-1}); zero if there are no such past values.
        none = l.new_zeros(1)
        u = torch.cat([none, 1 / (l[1:-1] - l[:-2])])
        u_before = torch.cat([none, u[:-1]])
        v = torch.cat([none, none, 2 / (l[2:-1] - l[:-3])])[: len(u)]

        b0 = 1 - r + by_d1 * u + by_d2 * v * u
        b1 = -by_d1 * u - by_d2 * v * (u + u_before)
        b2 = by_d2 * v * u_before
        # New noise as a share of l_t^2. For the probability flow it is exactly 0, without a
        # rounding error.
        share = 1 - (r * start / end).square()
        noise = end * torch.sqrt(torch.where(share > 1e-12, share, 0))
        a = r / alpha[:-1]
        table = alpha[1:, None] * torch.stack([a, b0, b1, b2, noise], dim=1)
        # exp(l^0.3) overflows at l = 3e9.
        if not table.isfinite().all():
            raise OptionError(
                f"noise_scale '{self.noise_scale}' of solver '{self.name}' overflows"
                f" at sigma / alpha = {float(l[0]):.1e}",
                option="noise_scale",
                hint="use another noise_scale",
            )
        return table
