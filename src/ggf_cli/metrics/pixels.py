"""Samples as they are, against a distribution that is known exactly: what remains is the solver's own error.

Samples are taken as the solver left them, in the units of the data and not clamped to an image's range: the distribution is
not clamped either.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, Protocol

import torch
from torch import Tensor

from ggf_cli.errors import UsageError
from ggf_cli.metrics.checks import check_finite
from ggf_cli.metrics.reference import Exact
from ggf_cli.metrics.registry import Against

if TYPE_CHECKING:
    from ggf_cli.score import ScoreModel


class Distribution(Protocol):
    """A distribution of samples of D numbers."""

    def sample(self, n: int, generator: torch.Generator | None = None) -> Tensor:
        """Exact samples, (n, *shape)."""

    def moments(self) -> tuple[Tensor, Tensor]:
        """Exact mean (D,) and covariance (D, D)."""


class Pixels:
    """The space of the numbers themselves.

    Args:
        distribution: What samples should be drawn from.
        shape: Of one sample.
        device: Where the distribution draws.
    """

    sample_form: Literal["x"] = "x"
    what = "the space of the samples themselves"
    fewest = 2

    def __init__(
        self, distribution: Distribution, shape: tuple[int, ...], device: torch.device | str = "cpu"
    ) -> None:
        self.shape = tuple(shape)
        self.reference = Exact(distribution, device)

    @classmethod
    def open(cls, model: ScoreModel, **options: Any) -> Pixels:
        """The space of an exact model's samples."""
        return cls(model.distribution, model.shape, model.device)

    def features(self, piece: Tensor) -> Tensor:
        """(N, *shape) -> (N, D).

        Raises:
            UsageError: Of another shape, or not finite.
        """
        if tuple(piece.shape[1:]) != self.shape:
            raise UsageError(
                f"samples are of shape {tuple(piece.shape[1:])}, the model's are {self.shape}"
            )
        check_finite(piece)
        return piece.flatten(1).cpu()

    def notes(self, n: int, against: Against) -> list[str]:
        """None: what n does to the numbers, the floor shows."""
        return []
