"""The SDE of any Gaussian diffusion: it is derived from alpha(t) and sigma(t).

    f(x, t) = (alpha' / alpha) x,    g^2 = 2 sigma sigma' - 2 (alpha' / alpha) sigma^2

alpha' and sigma' are derivatives by autograd, or given. The inverse of log(alpha / sigma) is found
by Newton's method within a bracket. All of this is in float64, each element on its own.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from typing import ClassVar

import torch
from torch import Tensor

from ggf_cli.errors import UsageError
from ggf_cli.scalars import as_float, shown
from ggf_cli.sde import SDE, expand_as_batch

Function = Callable[[Tensor], Tensor]

# Times at which the functions are checked, and between which the inverse is searched.
CHECKED = 1024

# Iterations of the inverse. Newton's method needs about 4; bisection alone would need 53.
MOST_ITERATIONS = 64

# torch rounds the last few elements of a tensor differently in some functions (pow, sigmoid): their
# arguments are filled up to a multiple of this, so that no element depends on the batch.
LANES = 64


def _missing(t: Tensor) -> Tensor:
    raise UsageError("a GaussianDiffusion needs two functions of t: alpha and sigma")


@dataclass(frozen=True)
class Schedule:
    """A function of time and its derivative.

    Args:
        function: t (B,) -> (B,), of torch functions.
        slope: Its derivative, t (B,) -> (B,); None takes it by autograd.
        name: Its name in messages.
    """

    function: Function
    slope: Function | None
    name: str

    def __call__(self, t: Tensor) -> Tensor:
        return self._evaluate(self.function, t)

    def derivative(self, t: Tensor) -> Tensor:
        """The derivative at t, in the shape and dtype of t."""
        return self._evaluate(self.slope or self._autograd, t)

    def _evaluate(self, function: Function, t: Tensor) -> Tensor:
        flat = in_float64(t).reshape(-1)
        filled = torch.cat([flat, flat[-1:].expand(-len(flat) % LANES)])
        value = function(filled)
        if not isinstance(value, Tensor) or value.shape != filled.shape or value.is_complex():
            got = f"shape {tuple(value.shape)}" if isinstance(value, Tensor) else shown(value)
            raise UsageError(
                f"{self.name}(t) of t with shape {tuple(filled.shape)} is {got}",
                hint="it must be a real tensor of the shape of t, like torch.ones_like(t)",
            )
        return value[: len(flat)].detach().to(t).reshape(t.shape)

    def _autograd(self, t: Tensor) -> Tensor:
        with torch.inference_mode(False), torch.enable_grad():
            at = t.detach().clone().requires_grad_(True)
            value = self.function(at)
            if not value.requires_grad:
                # A constant, like torch.ones_like(t).
                return torch.zeros_like(t)
            return torch.autograd.grad(value.sum(), at)[0]


@dataclass(frozen=True, kw_only=True)
class GaussianDiffusion(SDE):
    """The SDE with given alpha and sigma: x(t) | x(0) ~ N(alpha(t) x(0), sigma(t)^2 I).

        GaussianDiffusion(lambda t: torch.cos(1.5 * t), lambda t: torch.sin(1.5 * t))

    Args:
        alpha: Signal scale, a function of t, (B,) float64 -> (B,), > 0; each element from its own t
            alone.
        sigma: Noise scale, likewise. alpha / sigma must fall from t_eps to T.
        T: Time at which sampling starts.
        t_eps: Time at which it ends, in (0, T).
        data_range: Smallest and largest value of the data.
        alpha_slope: Derivative of alpha; None takes it by autograd.
        sigma_slope: Derivative of sigma; None takes it by autograd.
        prior: Standard deviation of the prior; None is sigma(T).

    Raises:
        UsageError: The functions are no Gaussian diffusion, with the reason.
    """

    name: ClassVar[str] = "custom"

    alpha: Function = field(default=_missing, kw_only=False)  # type: ignore[assignment]
    sigma: Function = field(default=_missing, kw_only=False)  # type: ignore[assignment]
    T: float = 1.0
    t_eps: float = 1e-3
    data_range: tuple[float, float] = (-1.0, 1.0)
    alpha_slope: Function | None = None
    sigma_slope: Function | None = None
    prior: float | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "T", as_float(self.T, "T", above=0))
        if self.prior is not None:
            object.__setattr__(self, "prior", as_float(self.prior, "prior", above=0))
        super().__post_init__()
        for name, slope in (("alpha", self.alpha_slope), ("sigma", self.sigma_slope)):
            given = getattr(self, name)
            function = given.function if isinstance(given, Schedule) else given
            if not callable(function):
                raise UsageError(f"{name} is {shown(function)}, it must be a function of t")
            schedule = Schedule(function, slope, name)
            object.__setattr__(self, name, schedule)
            _check(schedule, _times(self.t_eps, self.T))
        _check_falls(self, _times(self.t_eps, self.T))
        self._check_ends()

    @property
    def prior_std(self) -> float:
        if self.prior is not None:
            return self.prior
        return float(self.sigma(torch.tensor([self.T], dtype=torch.float64)))

    def drift(self, x: Tensor, t: Tensor) -> Tensor:
        return expand_as_batch(self._log_slope("alpha", t), x) * x

    def diffusion(self, t: Tensor) -> Tensor:
        relative = self._log_slope("sigma", t) - self._log_slope("alpha", t)
        return self.sigma(t) * torch.sqrt(2 * relative.clamp(min=0))

    def time_at(self, half_log_snr: Tensor) -> Tensor:
        """Inverse of half_log_snr, between t_eps and T; the nearer of these outside."""
        target = in_float64(half_log_snr).reshape(-1)
        times, levels = _levels(self, target.device)
        target = target.clamp(float(levels[-1]), float(levels[0]))
        # The bracket: half_log_snr is above the target at `low` and below it at `high`.
        k = torch.searchsorted(-levels, -target).clamp(1, len(levels) - 1)
        low, high = times[k - 1], times[k]
        share = (levels[k - 1] - target) / (levels[k - 1] - levels[k])
        t = low + share * (high - low)
        found = ~target.isfinite()
        for _ in range(MOST_ITERATIONS):
            excess = self.half_log_snr(t) - target
            slope = self._log_slope("alpha", t) - self._log_slope("sigma", t)
            low, high = torch.where(excess >= 0, t, low), torch.where(excess <= 0, t, high)
            newton = t - excess / slope
            within = (newton >= low) & (newton <= high)
            t_next = torch.where(within, newton, (low + high) / 2)
            # What is found stays, so that an element does not depend on the others.
            t_next = torch.where(found, t, t_next)
            found = found | ((t_next - t).abs() <= 1e-15 * t)
            t = t_next
            if found.all():
                break
        return t.to(half_log_snr).reshape(half_log_snr.shape)

    def _log_slope(self, name: str, t: Tensor) -> Tensor:
        """The derivative of log(alpha) or log(sigma), in the shape of t."""
        schedule: Schedule = getattr(self, name)
        return schedule.derivative(t) / schedule(t)


def in_float64(t: Tensor) -> Tensor:
    """t in float64, on its own device; of mps, which has no float64, on the CPU."""
    return t.detach().to("cpu" if t.device.type == "mps" else t.device, torch.float64)


@lru_cache(maxsize=64)
def _levels(sde: GaussianDiffusion, device: torch.device) -> tuple[Tensor, Tensor]:
    """Times from t_eps to T, and log(alpha / sigma) there, which falls."""
    times = _times(sde.t_eps, sde.T)
    return times.to(device), sde.half_log_snr(times).to(device)


def _times(start: float, end: float) -> Tensor:
    """Rising times from start to end, (CHECKED,) float64, dense near the start.

    Equal steps in the seventh root, as in the schedule of Karras et al.
    """
    share = torch.linspace(0, 1, CHECKED, dtype=torch.float64)
    first, last = start ** (1 / 7), end ** (1 / 7)
    times: Tensor = (first + share * (last - first)) ** 7
    times[0], times[-1] = start, end
    return times


def _check(schedule: Schedule, t: Tensor) -> None:
    """Refuse a function that is no scale of a diffusion: not finite, not positive, ..."""
    value, slope, name = schedule(t), schedule.derivative(t), schedule.name
    for wrong, reason in (
        (~value.isfinite(), "is not finite"),
        (value <= 0, "is not positive"),
        (~slope.isfinite(), "has no finite derivative"),
        (schedule(t[:7]) != value[:7], "depends on the other elements of t"),
    ):
        if wrong.any():
            raise UsageError(f"{name}(t) {reason}", hint=f"{name} must be smooth and > 0")
    # Wrong if a derivative was given wrongly, or if autograd cannot see the whole function. The
    # median, because tables that are interpolated have kinks.
    inner = t[1:-1]
    step = 1e-6 * inner
    measured = (schedule(inner + step) - schedule(inner - step)) / (2 * step)
    missed = (slope[1:-1] - measured).abs().median()
    if not missed <= 1e-3 * measured.abs().median() + 1e-6 * float(value.max()) / float(t[-1]):
        raise UsageError(
            f"the derivative of {name} differs from its finite differences",
            hint=f"write {name} in functions of torch, or give {name}_slope",
        )


def _check_falls(sde: GaussianDiffusion, t: Tensor) -> None:
    rises = sde.half_log_snr(t).diff() >= 0
    if rises.any():
        at = float(t[:-1][rises][0])
        raise UsageError(
            f"alpha / sigma does not fall with t, at t = {at:.3g}",
            hint="the noise must grow from t_eps to T",
        )
