"""The feature space of the samples themselves, for models whose distribution is known exactly.

The network has no error there, so the metric measures the error of the solver. Samples are taken in
the units of the data and not clamped to the range of an image: the distribution is not clamped
either.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor

from ggf_cli.errors import UsageError
from ggf_cli.metrics.checks import check_finite
from ggf_cli.metrics.reference import Distribution, ExactReference
from ggf_cli.metrics.registry import ReferenceForm

if TYPE_CHECKING:
    from ggf_cli.score import ScoreModel


class Pixels:
    """The feature space of the samples themselves.

    Args:
        distribution: The exact distribution.
        shape: Shape of one sample.
        device: Where reference samples are drawn.
    """

    sample_form: Literal["x"] = "x"
    name = "the space of the samples themselves"
    min_samples = 2

    def __init__(
        self, distribution: Distribution, shape: tuple[int, ...], device: torch.device | str = "cpu"
    ) -> None:
        self.shape = tuple(shape)
        self.reference = ExactReference(distribution, device)

    @classmethod
    def open(cls, model: ScoreModel, **_: object) -> Pixels:
        """Make the space of an exact model."""
        return cls(model.distribution, model.shape, model.device)

    def features(self, samples: Tensor) -> Tensor:
        """Flatten samples (N, *shape) to (N, D), on the CPU.

        Raises:
            UsageError: Another shape, or values that are not finite.
        """
        if tuple(samples.shape[1:]) != self.shape:
            raise UsageError(
                f"samples have shape {tuple(samples.shape[1:])}, the model's have {self.shape}"
            )
        check_finite(samples)
        return samples.flatten(1).cpu()

    def notes(self, n: int, reference_form: ReferenceForm) -> list[str]:
        """Return no caveats: the floor shows the effect of n."""
        return []
