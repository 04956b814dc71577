"""Adaptive exponential multistep method for the reverse SDE: one evaluation a step, no rejections.

With y = x / alpha, l = sigma / alpha, lambda = -log l and the data prediction
D(y, lambda) = E[x(0) | x(t)], the reverse SDE (eta = 1), the probability flow (eta = 0)
and the SDEs in between are

    dy = (1 + eta) (D - y) dlambda + sqrt(2 eta) l dw

All terms but D are linear and solved exactly. From s to the next t, with
h = lambda_t - lambda_s > 0 and K = 1 + eta:

    predict   y_t <- e^(-K h) y_s + (1 - e^(-K h)) D_s + l_t sqrt(1 - e^(-2 eta h)) z
    evaluate  D_t <- D(y_t)
    correct   d   <- w (D_t - D_s),   w = k / (1 - J k),   k = 1 - (1 - e^(-K h)) / (K h)
              y_t <- y_t + d,   D_t <- D_t + J d

The prediction keeps D constant: along the reverse SDE the data prediction is a martingale, so its
past does not predict its change, and e^(-2h) y + (1 - e^(-2h)) D is the exact mean of y_t. The
prediction lacks the variance of D between D_s and D_t. The correction adds it after the evaluation:
k (D_t - D_s) is the integral of the line between the two (Adams–Moulton). D_t belongs to the
predicted y_t; at the corrected one it is larger by J d, with J the Jacobian of D along d. That
makes the correction implicit: d = k (D_t + J d - D_s). It costs no evaluation, because J is
approximated:

    S = sqrt(elements of a sample) (high - low) / 4     size of the difference between two images
    v = S² / (S² + l_t²)                                J of Gaussian data of deviation S
    J = 0.8 v

The size of the next step follows from the last correction, in units of the tolerance:

    delta = max(eps_abs, eps_rel (high - low))                     of the data range
    error = v RMS(k (D_t - D_s)) / delta                           one number a row
    h <- min(h_max, h clamp(safety error^-exponent, shrink, growth))

v is the share of an error in y that still changes the data prediction, and with it the image. The
step size depends on the past only and no step is rejected, so the noise is not selected. The last D
is the denoised image.

docs/research/adaptive-multistep.md has the derivation, and the measurements behind every constant.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import ClassVar, Literal, Self

import torch
from torch import Tensor

from ggf_cli.errors import OptionError
from ggf_cli.score import ScoreFunction
from ggf_cli.sde import SDE, expand_as_batch
from ggf_cli.solvers.base import NoiseFunction, Rows, fresh_rows, option, where_rows
from ggf_cli.solvers.control import time_after
from ggf_cli.solvers.reduction import root_mean_square
from ggf_cli.solvers.tolerance import Tolerances

JACOBIAN = 0.8
H_FIRST, SAFETY, EXPONENT, SHRINK, GROWTH = 0.3, 0.9, 0.6, 0.3, 2.0


@dataclass(frozen=True, kw_only=True)
class AdaptiveMultistepRows(Rows):
    """The rows of the adaptive multistep solver.

    Attributes:
        h: The largest next step, in units of t, (B,).
        width: The last step, in units of lambda, (B,); 0 before the first.
        data: The corrected data prediction at the start of the last step, (B, *).
    """

    h: Tensor
    width: Tensor
    data: Tensor


@dataclass(frozen=True, kw_only=True)
class AdaptiveMultistep(Tolerances[AdaptiveMultistepRows]):
    """Adaptive exponential multistep solver: one evaluation a step, no step rejected."""

    name: ClassVar[str] = "adaptive-multistep"
    kind: ClassVar[Literal["sde", "ode"]] = "sde"
    order: ClassVar[float | None] = 1
    evaluations: ClassVar[str] = "1"

    eta: float = option(1.0, "noise: 1 the reverse SDE, 0 the probability flow", low=0, high=100)
    h_max: float = option(1.0, "largest step, in units of log(alpha / sigma)", above=0, high=100)
    denoise: bool = option(True, "end with Tweedie's formula at t_eps")
    times: tuple[float, ...] | None = option(
        None,
        "fixed step times in place of adaptive steps, from T to t_eps: 1.0,...,0.001",
        numbers=True,
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        times = self.times
        if times is None:
            return
        if len(times) < 2 or not all(after < t for t, after in pairwise(times)):
            raise OptionError(
                f"times of solver '{self.name}' must be two or more, and decrease",
                option="times",
                hint="from T to t_eps",
            )

    def resolved(self, sde: SDE) -> Self:
        times = self.times
        if times and (times[0] != sde.T or times[-1] != sde.t_eps):
            raise OptionError(
                f"times of solver '{self.name}' run from {times[0]} to {times[-1]},"
                f" not from {sde.T} to {sde.t_eps}",
                option="times",
            )
        return super().resolved(sde)

    def expected_nfe(self) -> int | None:
        times = self.times
        return len(times) - 1 + int(self.denoise) if times else super().expected_nfe()

    def start(self, x: Tensor, index: Tensor, sde: SDE) -> AdaptiveMultistepRows:
        rows = fresh_rows(x, index, sde)
        t = rows["t"]
        return AdaptiveMultistepRows(
            **rows,
            h=_in_time(sde, t, torch.full_like(t, min(H_FIRST, self.h_max))),
            width=torch.zeros_like(t),
            data=torch.zeros_like(x),
        )

    def step(
        self, rows: AdaptiveMultistepRows, score: ScoreFunction, noise: NoiseFunction, sde: SDE
    ) -> AdaptiveMultistepRows:
        t, arrived = rows.t, rows.t <= sde.t_eps
        answer = sde.tweedie_denoise(rows.x, t, score(rows.x, t))

        # Correct the last step; a new row has made none, its k is 0.
        k = missed_share((1 + self.eta) * rows.width)
        change = answer - rows.data
        missed = root_mean_square(change).to(t.dtype) * k
        visible = _visible(sde, t, change[0].numel())
        error = missed * visible / self._tolerance(sde)
        jacobian = JACOBIAN * visible
        shift = expand_as_batch(k / (1 - jacobian * k), change) * change
        x = rows.x + expand_as_batch(sde.alpha(t), shift) * shift
        data = answer + expand_as_batch(jacobian, shift) * shift

        # Predict. A row that has arrived takes a step of size 0, which is discarded below.
        t_next, width = self._next(rows, error, sde)
        z = noise(rows.index, rows.draws)
        moved = self._predict(x, data, t, t_next, width, z, sde)

        h = _in_time(sde, t_next, (GROWTH * width).clamp(max=self.h_max))
        accepted = rows.accepted + ~arrived
        return AdaptiveMultistepRows(
            index=rows.index,
            draws=rows.draws + ~arrived,
            x=where_rows(arrived, answer, moved),
            t=t_next,
            accepted=accepted,
            rejected=rows.rejected,
            done=arrived if self.denoise else t_next <= sde.t_eps,
            h=h,
            width=width,
            data=data,
        )

    def _next(self, rows: AdaptiveMultistepRows, error: Tensor, sde: SDE) -> tuple[Tensor, Tensor]:
        """The next time of each row, and the size of the step in lambda, both (B,)."""
        if self.times:
            grid = _grid(self.times, rows.t.dtype, rows.t.device)
            t_next = grid[(rows.accepted + 1).clamp(max=len(grid) - 1)]
            return t_next, sde.half_log_snr(t_next) - sde.half_log_snr(rows.t)
        here = sde.half_log_snr(rows.t)
        limit = sde.half_log_snr(time_after(rows.t, rows.h, sde.t_eps)) - here
        # exp and log, not pow: see ggf_cli.solvers.control. An error of 0 gives an infinite factor.
        factor = (SAFETY * torch.exp(-EXPONENT * torch.log(error))).clamp(SHRINK, GROWTH)
        width = torch.where(rows.accepted == 0, limit, torch.minimum(limit, factor * rows.width))

        left = sde.half_log_snr(torch.full_like(rows.t, sde.t_eps)) - here
        # The last step must end at t_eps to the bit, in spite of round-off.
        last = width >= (1 - 1e-9) * left
        t_next = torch.where(last, sde.t_eps, sde.time_at(here + width))
        return t_next, torch.where(last, left, width)

    def _predict(
        self, x: Tensor, data: Tensor, t: Tensor, t_next: Tensor, width: Tensor, z: Tensor, sde: SDE
    ) -> Tensor:
        """x at t_next if the data prediction did not change on the way, (B, *)."""
        sigma = sde.sigma(t_next)
        keep = sigma / sde.sigma(t) * torch.exp(-self.eta * width)
        gain = sde.alpha(t_next) * -torch.expm1(-(1 + self.eta) * width)
        spread = sigma * torch.sqrt(-torch.expm1(-2 * self.eta * width))
        return (
            expand_as_batch(keep, x) * x
            + expand_as_batch(gain, x) * data
            + expand_as_batch(spread, x) * z
        )

    def remark(self, sde: SDE) -> str | None:
        low, high = sde.data_range
        eps_abs = self._eps_abs(sde)
        if self.eps_rel * (high - low) >= eps_abs:
            return None
        return (
            f"`eps_rel` {self.eps_rel:g} of the data range {high - low:g} is below `eps_abs`"
            f" {eps_abs:.3g}: it has no effect; for smaller steps lower `eps_abs`"
        )

    def _tolerance(self, sde: SDE) -> float:
        """The tolerance delta, in units of the data."""
        low, high = sde.data_range
        return max(self._eps_abs(sde), self.eps_rel * (high - low))


def missed_share(u: Tensor) -> Tensor:
    """k = 1 - (1 - e^-u) / u, (B,) -> (B,) in [0, 1), u >= 0.

    If D changes linearly over a step, the share of the change that a step with constant D misses.
    """
    exact = 1 + torch.expm1(-u) / u.clamp(min=1e-4)
    return torch.where(u < 1e-4, u / 2, exact)


def _visible(sde: SDE, t: Tensor, numbers: int) -> Tensor:
    """S² / (S² + l²), (B,): the Jacobian of D for data of deviation S.

    `numbers` is the number of elements of a sample.
    """
    low, high = sde.data_range
    spread = numbers * ((high - low) / 4) ** 2
    return spread / (spread + torch.exp(-2 * sde.half_log_snr(t)))


@lru_cache(maxsize=64)
def _grid(times: tuple[float, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
    return torch.tensor(times, dtype=dtype, device=device)


def _in_time(sde: SDE, t: Tensor, width: Tensor) -> Tensor:
    """Convert the size of a step from t, in lambda, to units of t; all (B,)."""
    return t - sde.time_at(sde.half_log_snr(t) + width)
