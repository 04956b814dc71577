"""Score models: the score of the noisy data as one function, and the count of its evaluations.

    score(x, t) = grad_x log p_t(x)            x (B, *), t (B,) -> (B, *), every row with its own t

A network rarely returns the score itself; a parametrisation converts its output to the score.
Solvers call `score(x, t)` only and do not use the network.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from ggf_cli.errors import UsageError
from ggf_cli.scalars import as_int, items, shown
from ggf_cli.sde import SDE

# The largest number of elements of a sample.
MAX_SIZE = 2**30

ScoreFunction = Callable[[Tensor, Tensor], Tensor]


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

    def __post_init__(self) -> None:
        object.__setattr__(self, "shape", as_shape(self.shape))
        if not isinstance(self.dtype, torch.dtype) or not self.dtype.is_floating_point:
            raise UsageError(f"dtype is {self.dtype}, it must be a floating-point type of torch")

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
    """

    def __init__(self, score: ScoreFunction, dtype: torch.dtype) -> None:
        self._score, self._dtype = score, dtype
        self.calls = 0
        self.rows_evaluated = 0
        self.nfe = torch.zeros(0, dtype=torch.int64)
        self.finite = torch.zeros(0, dtype=torch.bool)

    def __call__(self, x: Tensor, t: Tensor) -> Tensor:
        score = self._score(x.to(self._dtype), t)
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
