"""Score models: the score of the noisy data as one function, and the count of its evaluations.

    score(x, t) = grad_x log p_t(x)            x (B, *), t (B,) -> (B, *), every row with its own t

A network rarely returns the score itself; a parametrisation converts its output to the score.
Solvers call `score(x, t)` only and do not use the network.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from ggf_cli.conditions import Conditions, ConditionsLike, as_conditions
from ggf_cli.errors import UsageError
from ggf_cli.scalars import as_int, items, shown
from ggf_cli.sde import SDE, VPSDE, expand_as_batch

# The largest number of elements of a sample.
MAX_SIZE = 2**30

# score(x, t), or score(x, t, conditions) of a conditional model.
ScoreFunction = Callable[..., Tensor]


@dataclass(frozen=True, kw_only=True)
class ScoreModel:
    """A score and everything that is needed to sample from it.

    Args:
        score: x (B, *shape), t (B,) -> (B, *shape), on `device`; it must not change x. t is float64
            (float32 on mps): cast it to the dtype of your network. The score of a row must depend
            only on the x and t of that row.
        sde: The forward SDE of the score.
        shape: Shape of one sample, (C, H, W) for images; kept as a tuple.
        name: The name of the model in messages and logs.
        device: The device of the inputs of `score`.
        dtype: The dtype of x when `score` is called. Solvers keep x in it too, but at least in
            float32 (`state_dtype`).
        provenance: JSON data for the run log: source, sha256, parameters, licence.
        distribution: The data distribution if it is known exactly, with `sample` and `moments` like
            those of `networks.mixture.GaussianMixture`.
        recommended: Solver options that suit the model, {"snr": 0.075}. A solver uses those that it
            has and whose value is None.
        precision: Precision of the network's arithmetic, for the run log:
            `ggf_cli.runtime.precision`.
        compiled: The network is compiled for a few batch sizes and the engine uses only these:
            `ggf_cli.runtime.compilation`.
        conditional: Whether `score` takes a third argument, the conditions of the rows, (B, ...).
        conditions: The conditions of the samples of a conditional model, see `with_conditions`.
    """

    score: ScoreFunction
    sde: SDE
    shape: tuple[int, ...]
    name: str = "custom"
    device: torch.device | str = "cpu"
    dtype: torch.dtype = torch.float32
    provenance: dict[str, Any] | None = None
    distribution: Any = None
    recommended: Mapping[str, Any] = field(default_factory=dict)
    precision: str = "fp32"
    compiled: bool = False
    conditional: bool = False
    conditions: Conditions | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "shape", as_shape(self.shape))
        if not isinstance(self.dtype, torch.dtype) or not self.dtype.is_floating_point:
            raise UsageError(f"dtype is {self.dtype}, it must be a floating-point type of torch")

    def with_conditions(self, conditions: ConditionsLike) -> ScoreModel:
        """Return the model with a condition for each sample, see `as_conditions`.

        Raises:
            UsageError: The model is not conditional, or the conditions are not valid.
        """
        if not self.conditional:
            raise UsageError(
                f"{self.name} takes no conditions",
                hint="a conditional model has conditional=True and score(x, t, conditions)",
            )
        return replace(self, conditions=as_conditions(conditions))

    def require_conditions(self) -> None:
        """Check that a conditional model has conditions.

        Raises:
            UsageError: It has none.
        """
        if self.conditional and self.conditions is None:
            raise UsageError(
                f"{self.name} needs conditions, such as class labels",
                hint="give `label`, or conditions= from Python",
            )

    def evaluate(self, x: Tensor, t: Tensor, index: Tensor | None = None) -> Tensor:
        """The score of the rows x (B, *) at t (B,), with the conditions of their sample indices.

        Args:
            x: The rows.
            t: Their times.
            index: Their sample indices, (B,) int64; None: 0 .. B - 1.
        """
        if self.conditions is None:
            return self.score(x, t)
        index = torch.arange(len(x), device=x.device) if index is None else index
        return self.score(x, t, self.conditions(index))

    @property
    def state_dtype(self) -> torch.dtype:
        """The dtype of x in solvers and samples: at least float32, as steps overflow float16."""
        return torch.promote_types(self.dtype, torch.float32)


def as_shape(shape: Any) -> tuple[int, ...]:
    """Convert the shape of a sample to a tuple of Python ints; 1 to 2^30 elements.

    Args:
        shape: Whole numbers of any type: a tuple, a list, a torch.Size, an array.

    Raises:
        UsageError: Not a shape, or too many elements.
    """
    name = "the shape of a sample"
    try:
        sizes = tuple(as_int(size, name, low=1) for size in items(shape, name))
    except UsageError:
        sizes = ()
    if not sizes or math.prod(sizes) > MAX_SIZE:
        raise UsageError(
            f"{name} is {shown(shape)}, it must be a tuple of whole numbers >= 1"
            " with a product <= 2^30",
            hint="like (3, 32, 32)",
        )
    return sizes


def vp_continuous(network: Callable[..., Tensor], sde: SDE) -> ScoreFunction:
    """-network(x, 999 t) / sigma(t): noise prediction with a continuous label (VP, sub-VP).

    Reference: Song et al. 2021, arXiv:2011.13456, the `continuous` models of their code.
    """

    def score(x: Tensor, t: Tensor) -> Tensor:
        return -network(x, 999.0 * t) / expand_as_batch(sde.sigma(t), x)

    return score


def ve_continuous(network: Callable[..., Tensor], sde: SDE) -> ScoreFunction:
    """network(x, sigma(t)): NCSN++, which divides by sigma itself and so returns the score (VE)."""

    def score(x: Tensor, t: Tensor) -> Tensor:
        return network(x, sde.sigma(t))

    return score


def ve_discrete(network: Callable[..., Tensor], sde: SDE) -> ScoreFunction:
    """network(x, 999 (1 - t)) / sigma(t): NCSN++ trained at 1000 noise levels (VE, SMLD).

    The network was trained at the labels k = 0..999, with the noise levels
    sigma_max (sigma_min / sigma_max)^(k / 999), which fall and equal sigma(t) at t = 1 - k / 999.
    Between whole labels the label is interpolated; Song's code rounds it.

    Reference: Song et al. 2021, arXiv:2011.13456, the `ve` models of their code that are not
    `continuous`.
    """

    def score(x: Tensor, t: Tensor) -> Tensor:
        return network(x, 999.0 * (1.0 - t)) / expand_as_batch(sde.sigma(t), x)

    return score


def vp_discrete(network: Callable[..., Tensor], sde: SDE) -> ScoreFunction:
    """-network(x, label) / sigma(t): noise prediction of DDPM, trained at 1000 noise levels (VP).

    The network was trained at the labels k = 0..999, with the noise levels
    sigma_k = sqrt(1 - prod_{i <= k} (1 - beta_i)). The label of t is the k whose level is sigma(t),
    interpolated in log(alpha / sigma) between whole numbers. (Song's code takes k = 999 t, which at
    t_eps is a whole level off: sigma(0.001) = 0.0105 lies just above sigma_0 = 0.01.)

    Reference: Ho et al. 2020, arXiv:2006.11239; Lu et al. 2022, arXiv:2206.00927, appendix D.
    """
    assert isinstance(sde, VPSDE)
    levels = 1000
    betas = torch.linspace(sde.beta_min, sde.beta_max, levels, dtype=torch.float64) / levels
    log_alpha_bar = torch.cumsum(torch.log1p(-betas), 0)
    # It decreases with k.
    half_log_snr = (log_alpha_bar - torch.log(-torch.expm1(log_alpha_bar))) / 2

    def score(x: Tensor, t: Tensor) -> Tensor:
        label = _interpolate(sde.half_log_snr(t), half_log_snr.to(t))
        return -network(x, label) / expand_as_batch(sde.sigma(t), x)

    return score


def _interpolate(value: Tensor, falling: Tensor) -> Tensor:
    """The fractional index of each value (B,) in a falling sequence (n,), clamped to 0..n-1."""
    k = torch.searchsorted(-falling, -value).clamp(1, len(falling) - 1)
    before, after = falling[k - 1], falling[k]
    fraction = ((before - value) / (before - after)).clamp(0, 1)
    return (k - 1).to(value.dtype) + fraction


def exact(network: Callable[..., Tensor], sde: SDE) -> ScoreFunction:
    """network(x, alpha(t), sigma(t)): a distribution whose exact score is known."""

    def score(x: Tensor, t: Tensor) -> Tensor:
        return network(x, sde.alpha(t), sde.sigma(t))

    return score


@dataclass(frozen=True)
class Parametrization:
    """A conversion of network output to the score: parametrization(network, sde) is the score.

    Attributes:
        wrap: Makes the score function.
        sdes: The names of the SDEs that it supports.
    """

    wrap: Callable[[Callable[..., Tensor], SDE], ScoreFunction]
    sdes: tuple[str, ...]

    def __call__(self, network: Callable[..., Tensor], sde: SDE) -> ScoreFunction:
        return self.wrap(network, sde)


PARAMETRIZATIONS: dict[str, Parametrization] = {
    "vp-continuous": Parametrization(vp_continuous, ("vp", "subvp")),
    "vp-discrete": Parametrization(vp_discrete, ("vp",)),
    "ve-continuous": Parametrization(ve_continuous, ("ve",)),
    "ve-discrete": Parametrization(ve_discrete, ("ve",)),
    "exact": Parametrization(exact, ("ve", "vp", "subvp")),
}


class CountedScore:
    """A score that counts its evaluations and records which rows had a score with NaN or infinity.

    Args:
        score: x (B, *), t (B,) -> (B, *).
        dtype: The dtype of x when `score` is called. The result has the dtype of the caller's x.

    Attributes:
        calls: Network calls so far.
        rows_evaluated: Rows of all calls, padding included.
        nfe: Evaluations of the present sample of each slot, (B,) int64 on the host.
        finite: (B,) bool on the device; False once the score of a row was not finite.
        conditions: The conditions of the rows of the next call, (B, ...); None: the model has none.
    """

    def __init__(self, score: ScoreFunction, dtype: torch.dtype) -> None:
        self._score, self._dtype = score, dtype
        self.calls = 0
        self.rows_evaluated = 0
        self.nfe = torch.zeros(0, dtype=torch.int64)
        self.finite = torch.zeros(0, dtype=torch.bool)
        self.conditions: Tensor | None = None

    def __call__(self, x: Tensor, t: Tensor) -> Tensor:
        given = () if self.conditions is None else (self.conditions,)
        score = self._score(x.to(self._dtype), t, *given)
        if not isinstance(score, Tensor) or score.is_complex():
            raise UsageError(
                f"the score is a {type(score).__name__}", hint="it must be a real tensor"
            )
        if score.shape != x.shape:
            raise UsageError(
                f"the score of a batch of shape {tuple(x.shape)} has shape {tuple(score.shape)}",
                hint="a score has the shape of x",
            )
        self.calls += 1
        self.rows_evaluated += len(x)
        self.nfe += 1
        # The largest element of a row is finite only if all are (amax propagates NaN); seven times
        # as fast as testing each element.
        self.finite &= score.flatten(1).abs().amax(1).isfinite()
        return score.to(x.dtype)

    def open_slots(self, slots: int, device: torch.device) -> None:
        """Reset to `slots` new rows."""
        self.nfe = torch.zeros(slots, dtype=torch.int64)
        self.finite = torch.ones(slots, dtype=torch.bool, device=device)

    def reset_slots(self, slots: Tensor) -> None:
        """Reset the counts of the given slots, (k,) int64 on the host."""
        self.nfe[slots] = 0
        self.finite[slots.to(self.finite.device)] = True

    def keep_slots(self, slots: Tensor) -> None:
        """Drop all but the given slots, (k,) int64 on the host."""
        self.nfe = self.nfe[slots]
        self.finite = self.finite[slots.to(self.finite.device)]
