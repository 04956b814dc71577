"""The feature space of the samples themselves: points, signals, and exactly known models.

The reference is the exact distribution of the model, or a file of samples. With an exact model the
metric measures the error of the solver alone. Samples are taken in the units of the data and not
clamped to the range of an image.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor

from ggf_cli.errors import UsageError
from ggf_cli.metrics.checks import check_finite
from ggf_cli.metrics.reference import ExactReference, RealReference, Reference
from ggf_cli.metrics.reference_files import read_samples
from ggf_cli.metrics.registry import ReferenceForm, holds_samples

if TYPE_CHECKING:
    from ggf_cli.score import ScoreModel


class Pixels:
    """The feature space of the samples themselves.

    Args:
        reference: Exact or real samples, flattened.
        shape: Shape of one sample.
    """

    sample_form: Literal["x"] = "x"
    name = "the space of the samples themselves"
    min_samples = 2

    def __init__(self, reference: Reference, shape: tuple[int, ...]) -> None:
        self.shape = tuple(shape)
        self.reference = reference

    @classmethod
    def open(cls, model: ScoreModel, *, reference: Path | None = None, **_: object) -> Pixels:
        """Read the samples of the reference; without one the model is known exactly.

        Raises:
            UsageError: The reference cannot be read, or has samples of another shape.
        """
        if reference is None or not holds_samples(reference):
            return cls(ExactReference(model.distribution, model.device), model.shape)
        x = read_samples(reference, tuple(model.shape)).flatten(1)
        # Files are often sorted; the first n samples must be of all kinds.
        order = torch.randperm(len(x), generator=torch.Generator().manual_seed(0))
        return cls(RealReference(x[order], name="reference samples"), model.shape)

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
