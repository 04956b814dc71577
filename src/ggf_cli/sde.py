"""SDEs: the forward SDE that turns data into noise, and its time reversal.

    forward    dx = f(x, t) dt + g(t) dw,                               t from 0 (data) to T (noise)
    marginal   x(t) | x(0)  ~  N(alpha(t) x(0), sigma(t)^2 I)
    reverse    dx = [f(x, t) - g(t)^2 score(x, t)] dt + g(t) dw,        t from T down to t_eps

VE, VP and sub-VP are here, with T = 1; `ggf_cli.diffusions` has others, and the SDE of any alpha
and sigma.

The noise is additive (g depends on t alone), so Itô and Stratonovich solutions agree and averaging
two Euler–Maruyama increments (Heun) needs no correction term.

This module uses neither networks nor solvers. Reference: Song et al. 2021, arXiv:2011.13456,
section 3 and appendix B.
"""

from __future__ import annotations

import abc
import math
from dataclasses import asdict, dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from ggf_cli.errors import UsageError
from ggf_cli.registry import Entry
from ggf_cli.scalars import as_float, items, shown

# Largest sigma / alpha at T, and largest alpha / sigma at t_eps: solvers divide by alpha and square
# the ratio in float32. Published models reach 1.3e5; VP to beta 80 has 5e8.
MAX_RATIO = 1e12

# Times at which `SDE.to_dict` states alpha and sigma of an SDE that is not in the table.
LISTED_TIMES = 9


def expand_as_batch(v: Tensor, x: Tensor) -> Tensor:
    """Reshape one number a row, (B,), to broadcast with a batch of states, (B, *), in its dtype."""
    return v.to(x.dtype).reshape(-1, *(1,) * (x.dim() - 1))


def check_sde(value: object) -> None:
    """Check that a value is an SDE.

    Raises:
        UsageError: It is not.
    """
    if not isinstance(value, SDE):
        raise UsageError(f"sde is {shown(value)}, it must be an SDE", hint="like ggf_cli.VPSDE()")


def _as_range(data_range: Any) -> tuple[float, float]:
    """Check a data range: two numbers (low, high), low < high."""
    name = "data_range"
    try:
        low, high = (as_float(end, name) for end in items(data_range, name))
    except (UsageError, ValueError):
        # ValueError: not two numbers.
        low = high = 0.0
    if not low < high:
        raise UsageError(f"{name} is {shown(data_range)}, it must be (low, high), low < high")
    return low, high


@dataclass(frozen=True, kw_only=True)
class SDE(abc.ABC):
    """A forward SDE with Gaussian marginals, whose drift is a multiple of x.

    Every solver solves every SDE. A subclass is a frozen dataclass, so that it can be hashed, and
    defines

        alpha(t), sigma(t)      the marginal: the mean's factor and the standard deviation
        drift(x, t)             f(x, t) = (alpha' / alpha) x
        diffusion(t)            g(t), with g^2 = 2 sigma sigma' - 2 (alpha' / alpha) sigma^2
        time_at(half_log_snr)   the inverse of log(alpha / sigma)
        T, prior_std            where they are not 1

    Functions of time map t to a tensor of the shape and dtype of t; an element must not depend on
    the others. log(alpha / sigma) must fall with t. `GaussianDiffusion` derives all of it from
    alpha and sigma.

    Args:
        t_eps: Time at which the reverse solve ends and Tweedie's formula denoises, in (0, T).
        data_range: Smallest and largest value of the data: two numbers, kept as a tuple.
    """

    name: ClassVar[str] = "custom"

    t_eps: float
    data_range: tuple[float, float]

    def __post_init__(self) -> None:
        self._make_floats("t_eps")
        if not 0.0 < self.t_eps < self.T:
            raise UsageError(f"t_eps is {self.t_eps}, it must lie in (0, {self.T:g})")
        object.__setattr__(self, "data_range", _as_range(self.data_range))

    def _make_floats(self, *names: str) -> None:
        """Convert fields to Python floats, so that SDEs can be compared and written as JSON."""
        for name in names:
            object.__setattr__(self, name, as_float(getattr(self, name), name))

    def _check_ends(self) -> None:
        """Refuse an SDE with too little noise at t_eps or too little data at T for float32.

        Subclasses call this at the end of `__post_init__`.
        """
        ends = torch.tensor([self.t_eps, self.T], dtype=torch.float64)
        least, largest = torch.exp(-self.half_log_snr(ends)).tolist()
        if not least >= 1 / MAX_RATIO:
            raise UsageError(
                f"sigma / alpha is {least:.1e} at t_eps {self.t_eps},"
                f" it must be at least {1 / MAX_RATIO:.0e}",
                hint="use a larger t_eps",
            )
        if not largest <= MAX_RATIO:
            raise UsageError(
                f"sigma / alpha is {largest:.1e} at T, it must be at most {MAX_RATIO:.0e}",
                hint="use a smaller beta_max, sigma_max or T",
            )

    @property
    def T(self) -> float:
        """The time of pure noise, where sampling starts."""
        return 1.0

    @abc.abstractmethod
    def alpha(self, t: Tensor) -> Tensor:
        """Signal scale of the marginal, (B,) -> (B,), > 0."""

    @abc.abstractmethod
    def sigma(self, t: Tensor) -> Tensor:
        """Noise scale of the marginal, (B,) -> (B,), > 0."""

    @abc.abstractmethod
    def drift(self, x: Tensor, t: Tensor) -> Tensor:
        """f(x, t): x (B, *), t (B,) -> (B, *)."""

    @abc.abstractmethod
    def diffusion(self, t: Tensor) -> Tensor:
        """g(t): (B,) -> (B,)."""

    def marginal_prob(self, x0: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        """Mean (B, *) and standard deviation (B,) of x(t) given x(0) = x0."""
        return expand_as_batch(self.alpha(t), x0) * x0, self.sigma(t)

    def half_log_snr(self, t: Tensor) -> Tensor:
        """log(alpha / sigma), (B,) -> (B,); falls as t grows."""
        return torch.log(self.alpha(t) / self.sigma(t))

    @abc.abstractmethod
    def time_at(self, half_log_snr: Tensor) -> Tensor:
        """Inverse of half_log_snr: the time t, (B,) -> (B,)."""

    @property
    def prior_std(self) -> float:
        """Standard deviation of the prior at T; 1 if the SDE preserves the variance."""
        return 1.0

    def prior_sampling(self, noise: Tensor) -> Tensor:
        """Turn standard normal noise (B, *) into draws of the prior, N(0, prior_std^2 I)."""
        return self.prior_std * noise

    def reverse_drift(self, x: Tensor, t: Tensor, score: Tensor) -> Tensor:
        """f(x, t) - g(t)^2 score: the drift of the reverse SDE, (B, *)."""
        return self.drift(x, t) - expand_as_batch(self.diffusion(t).square(), x) * score

    def tweedie_denoise(self, x: Tensor, t: Tensor, score: Tensor) -> Tensor:
        """E[x(0) | x(t) = x] = (x + sigma^2 score) / alpha, (B, *).

        Song's code and the paper's leave out the division by alpha, which at t_eps is 0.99995 for
        VP.
        """
        sigma2 = expand_as_batch(self.sigma(t).square(), x)
        return (x + sigma2 * score) / expand_as_batch(self.alpha(t), x)

    @property
    def eps_abs(self) -> float:
        """The paper's absolute tolerance: one of 256 levels of the data range."""
        low, high = self.data_range
        return (high - low) / 256

    def to_unit_range(self, x: Tensor) -> Tensor:
        """Map data to float32 images in [0, 1], clamped."""
        low, high = self.data_range
        return ((x.to(torch.float32) - low) / (high - low)).clamp(0.0, 1.0)

    def to_dict(self) -> dict[str, Any]:
        """The SDE as JSON data.

        `sde_from_dict` reads the SDEs of the table `SDES` back. Any other has the name "custom" and
        is described by the values of alpha and sigma at a few times.
        """
        if self.name in SDES and SDES[self.name].load() is type(self):
            fields = asdict(self)
        else:
            times = torch.linspace(self.t_eps, self.T, LISTED_TIMES, dtype=torch.float64)
            fields = {
                "t_eps": self.t_eps,
                "T": self.T,
                "times": times.tolist(),
                "alpha": self.alpha(times).tolist(),
                "sigma": self.sigma(times).tolist(),
            }
        name = self.name if "times" not in fields else "custom"
        return {"name": name, **fields, "data_range": list(self.data_range)}


@dataclass(frozen=True, kw_only=True)
class VESDE(SDE):
    """Variance exploding: dx = g dw, sigma(t) = sigma_min (sigma_max / sigma_min)^t, alpha = 1."""

    name: ClassVar[str] = "ve"

    sigma_min: float = 0.01
    sigma_max: float = 50.0
    t_eps: float = 1e-5
    data_range: tuple[float, float] = (0.0, 1.0)

    def __post_init__(self) -> None:
        super().__post_init__()
        self._make_floats("sigma_min", "sigma_max")
        if not 0.0 < self.sigma_min < self.sigma_max < math.inf:
            raise UsageError(
                f"sigma_min {self.sigma_min} and sigma_max {self.sigma_max} must satisfy"
                " 0 < sigma_min < sigma_max"
            )
        self._check_ends()

    def alpha(self, t: Tensor) -> Tensor:
        return torch.ones_like(t)

    def sigma(self, t: Tensor) -> Tensor:
        return self.sigma_min * torch.exp(t * math.log(self.sigma_max / self.sigma_min))

    def drift(self, x: Tensor, t: Tensor) -> Tensor:
        return torch.zeros_like(x)

    def diffusion(self, t: Tensor) -> Tensor:
        return self.sigma(t) * math.sqrt(2 * math.log(self.sigma_max / self.sigma_min))

    def time_at(self, half_log_snr: Tensor) -> Tensor:
        log_sigma_min, log_sigma_max = math.log(self.sigma_min), math.log(self.sigma_max)
        return (-half_log_snr - log_sigma_min) / (log_sigma_max - log_sigma_min)

    @property
    def prior_std(self) -> float:
        return self.sigma_max


@dataclass(frozen=True, kw_only=True)
class VPSDE(SDE):
    """Variance preserving: dx = -beta/2 x dt + sqrt(beta) dw, beta linear in t; DDPM's limit."""

    name: ClassVar[str] = "vp"

    beta_min: float = 0.1
    beta_max: float = 20.0
    t_eps: float = 1e-3
    data_range: tuple[float, float] = (-1.0, 1.0)

    def __post_init__(self) -> None:
        super().__post_init__()
        self._make_floats("beta_min", "beta_max")
        if not 0.0 < self.beta_min <= self.beta_max < math.inf:
            raise UsageError(
                f"beta_min {self.beta_min} and beta_max {self.beta_max} must satisfy"
                " 0 < beta_min <= beta_max"
            )
        self._check_ends()

    def beta(self, t: Tensor) -> Tensor:
        """Noise rate, (B,) -> (B,)."""
        return self.beta_min + t * (self.beta_max - self.beta_min)

    def log_alpha(self, t: Tensor) -> Tensor:
        """Minus half the integral of beta from 0 to t, (B,) -> (B,)."""
        return -0.25 * t.square() * (self.beta_max - self.beta_min) - 0.5 * t * self.beta_min

    def alpha(self, t: Tensor) -> Tensor:
        return torch.exp(self.log_alpha(t))

    def sigma(self, t: Tensor) -> Tensor:
        return torch.sqrt(-torch.expm1(2 * self.log_alpha(t)))

    def drift(self, x: Tensor, t: Tensor) -> Tensor:
        return expand_as_batch(-0.5 * self.beta(t), x) * x

    def diffusion(self, t: Tensor) -> Tensor:
        return torch.sqrt(self.beta(t))

    def time_at(self, half_log_snr: Tensor) -> Tensor:
        # The logarithm of alpha^2 = sigmoid(u), by functions whose result for a row does not depend
        # on other rows.
        u = 2 * half_log_snr
        return self._time_at_log_alpha((u.clamp(max=0) - torch.log1p(torch.exp(-u.abs()))) / 2)

    def _time_at_log_alpha(self, log_alpha: Tensor) -> Tensor:
        """Inverse of log_alpha: the root of a quadratic, in the form that keeps small t exact."""
        slope = self.beta_max - self.beta_min
        return (
            -4 * log_alpha / (self.beta_min + torch.sqrt(self.beta_min**2 - 4 * slope * log_alpha))
        )


@dataclass(frozen=True, kw_only=True)
class SubVPSDE(VPSDE):
    """Sub-VP: the drift and alpha of VP with less noise, sigma = 1 - alpha^2."""

    name: ClassVar[str] = "subvp"

    def sigma(self, t: Tensor) -> Tensor:
        return -torch.expm1(2 * self.log_alpha(t))

    def diffusion(self, t: Tensor) -> Tensor:
        return torch.sqrt(self.beta(t) * -torch.expm1(4 * self.log_alpha(t)))

    def time_at(self, half_log_snr: Tensor) -> Tensor:
        # alpha / (1 - alpha^2) = 1 / (2 sinh(-log alpha))
        return self._time_at_log_alpha(-torch.asinh(torch.exp(-half_log_snr) / 2))


SDES: dict[str, Entry] = {
    "ve": Entry("ggf_cli.sde:VESDE", "variance exploding"),
    "vp": Entry("ggf_cli.sde:VPSDE", "variance preserving, beta linear in t"),
    "subvp": Entry("ggf_cli.sde:SubVPSDE", "sub-VP"),
    "cosine": Entry("ggf_cli.diffusions:CosineVPSDE", "variance preserving, alpha a cosine"),
    "edm": Entry("ggf_cli.diffusions:EDM", "alpha 1, sigma t"),
    "flow": Entry("ggf_cli.diffusions:FlowMatching", "alpha 1 - t, sigma t"),
}


def sde_from_dict(fields: dict[str, Any]) -> SDE:
    """Make an SDE from the output of `SDE.to_dict`.

    Raises:
        UsageError: An unknown name or field.
    """
    fields = dict(fields)
    name = fields.pop("name", None)
    if name not in SDES:
        raise UsageError(f"unknown SDE '{name}'", hint=f"it is one of {', '.join(SDES)}")
    try:
        sde: SDE = SDES[name].load()(**fields)
    except TypeError as error:
        raise UsageError(f"SDE '{name}': {error}") from error
    return sde
