"""Further SDEs: cosine VP, EDM and flow matching. `ggf_cli.custom_sde` has any other.

    CosineVPSDE     alpha = cos(theta(t)) / cos(theta(0)),    sigma^2 = 1 - alpha^2
    EDM             alpha = 1,                                sigma = t, the noise level
    FlowMatching    alpha = 1 - t,                            sigma = t

Where alpha falls to 0 at t = 1, drift and diffusion are infinite there, so sampling starts at a T
below 1, from noise with the standard deviation of the marginal at T.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, cast

import torch
from torch import Tensor

from ggf_cli.errors import UsageError
from ggf_cli.sde import SDE, expand_as_batch


@dataclass(frozen=True, kw_only=True)
class CosineVPSDE(SDE):
    """Variance preserving with the cosine schedule of improved DDPM, in continuous time.

        theta(t) = pi / 2 (t + s) / (1 + s),    beta = pi / (1 + s) tan(theta)

    Args:
        s: Offset that keeps beta from vanishing at t = 0; with s = 0, alpha = cos(pi t / 2).
        T: Time at which sampling starts, below 1; the default is that of DPM-Solver.

    Reference: Nichol and Dhariwal 2021, arXiv:2102.09672, eq. 17; Lu et al. 2022, arXiv:2206.00927.
    """

    name: ClassVar[str] = "cosine"

    s: float = 0.008
    T: float = 0.9946
    t_eps: float = 1e-3
    data_range: tuple[float, float] = (-1.0, 1.0)

    def __post_init__(self) -> None:
        self._make_floats("s", "T")
        _check_below_one(self.T)
        super().__post_init__()
        if not 0.0 <= self.s < math.inf:
            raise UsageError(f"s is {self.s}, it must be >= 0")
        self._check_ends()

    @property
    def _speed(self) -> float:
        """The derivative of theta."""
        return math.pi / 2 / (1 + self.s)

    @property
    def _start(self) -> float:
        """theta(0)."""
        return self._speed * self.s

    def alpha(self, t: Tensor) -> Tensor:
        return torch.cos(self._speed * t + self._start) / math.cos(self._start)

    def sigma(self, t: Tensor) -> Tensor:
        # cos^2 b - cos^2 (a + b) = sin(a) sin(a + 2 b), without cancellation at small t.
        a = self._speed * t
        return torch.sqrt(torch.sin(a) * torch.sin(a + 2 * self._start)) / math.cos(self._start)

    def beta(self, t: Tensor) -> Tensor:
        """Noise rate, (B,) -> (B,)."""
        theta = self._speed * t + self._start
        return 2 * self._speed * torch.sin(theta) / torch.cos(theta)

    def drift(self, x: Tensor, t: Tensor) -> Tensor:
        return expand_as_batch(-0.5 * self.beta(t), x) * x

    def diffusion(self, t: Tensor) -> Tensor:
        return torch.sqrt(self.beta(t))

    def time_at(self, half_log_snr: Tensor) -> Tensor:
        # sigma^2 / alpha^2 = cos^2 b / cos^2 theta - 1
        ratio = torch.exp(-2 * half_log_snr)
        tangent = torch.sqrt(ratio + math.sin(self._start) ** 2) / math.cos(self._start)
        return (torch.atan(tangent) - self._start) / self._speed


@dataclass(frozen=True, kw_only=True)
class EDM(SDE):
    """Variance exploding with the noise level as time: alpha = 1, sigma = t, T = sigma_max.

    Args:
        sigma_min: The smallest noise level of the score; `t_eps` is this unless given.
        sigma_max: The largest noise level, where sampling starts.

    Reference: Karras et al. 2022, arXiv:2206.00364.
    """

    name: ClassVar[str] = "edm"

    sigma_min: float = 0.002
    sigma_max: float = 80.0
    # None becomes sigma_min.
    t_eps: float = cast("float", None)
    data_range: tuple[float, float] = (-1.0, 1.0)

    def __post_init__(self) -> None:
        self._make_floats("sigma_min", "sigma_max")
        if not 0.0 < self.sigma_min < self.sigma_max < math.inf:
            raise UsageError(
                f"sigma_min {self.sigma_min} and sigma_max {self.sigma_max} must satisfy"
                " 0 < sigma_min < sigma_max"
            )
        if cast("float | None", self.t_eps) is None:
            object.__setattr__(self, "t_eps", self.sigma_min)
        super().__post_init__()
        if self.t_eps < self.sigma_min:
            raise UsageError(f"t_eps is {self.t_eps}, it must be >= sigma_min {self.sigma_min}")
        self._check_ends()

    @property
    def T(self) -> float:
        return self.sigma_max

    @property
    def prior_std(self) -> float:
        return self.sigma_max

    def alpha(self, t: Tensor) -> Tensor:
        return torch.ones_like(t)

    def sigma(self, t: Tensor) -> Tensor:
        return t

    def drift(self, x: Tensor, t: Tensor) -> Tensor:
        return torch.zeros_like(x)

    def diffusion(self, t: Tensor) -> Tensor:
        return torch.sqrt(2 * t)

    def time_at(self, half_log_snr: Tensor) -> Tensor:
        return torch.exp(-half_log_snr)


@dataclass(frozen=True, kw_only=True)
class FlowMatching(SDE):
    """Rectified flow: x(t) = (1 - t) x(0) + t noise, so alpha = 1 - t and sigma = t.

    Args:
        T: Time at which sampling starts, below 1; the prior is N(0, T^2), that is N(0, 1) to 0.1 %.

    Reference: Lipman et al. 2023, arXiv:2210.02747; Liu et al. 2023, arXiv:2209.03003.
    """

    name: ClassVar[str] = "flow"

    T: float = 0.999
    t_eps: float = 1e-3
    data_range: tuple[float, float] = (-1.0, 1.0)

    def __post_init__(self) -> None:
        self._make_floats("T")
        _check_below_one(self.T)
        super().__post_init__()
        self._check_ends()

    @property
    def prior_std(self) -> float:
        return self.T

    def alpha(self, t: Tensor) -> Tensor:
        return 1 - t

    def sigma(self, t: Tensor) -> Tensor:
        return t

    def drift(self, x: Tensor, t: Tensor) -> Tensor:
        return expand_as_batch(-1 / (1 - t), x) * x

    def diffusion(self, t: Tensor) -> Tensor:
        return torch.sqrt(2 * t / (1 - t))

    def time_at(self, half_log_snr: Tensor) -> Tensor:
        # Not sigmoid, whose rounding depends on the position in the tensor.
        return 1 / (1 + torch.exp(half_log_snr))


def _check_below_one(end: float) -> None:
    if not 0.0 < end < 1.0:
        raise UsageError(f"T is {end}, it must lie in (0, 1)", hint="alpha is 0 at t = 1")
