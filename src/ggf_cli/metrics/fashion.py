"""The feature space of the small Fashion-MNIST classifier, with Fashion-MNIST as the reference.

Moments are compared with those of the 60,000 training images, sets of features with those of test
images, which the package contains. Neither the moments nor a network trained on the training images
depend on the test images.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor

from ggf_cli.metrics.checks import to_levels
from ggf_cli.metrics.classifier import FEATURES, SHAPE, load
from ggf_cli.metrics.reference import RealReference
from ggf_cli.metrics.registry import ReferenceForm

if TYPE_CHECKING:
    from ggf_cli.score import ScoreModel

BATCH_SIZE = 100


class Fashion:
    """The feature space of the classifier.

    Args:
        device: Device of the classifier.

    Raises:
        CheckpointError: The classifier in the package is missing or corrupt.
    """

    sample_form: Literal["images"] = "images"
    name = "features of a small Fashion-MNIST classifier"
    # A covariance of D features from fewer than 2 D images is mostly noise.
    min_samples = 2 * FEATURES

    def __init__(self, device: torch.device | str = "cpu") -> None:
        self.device = torch.device(device)
        self.trained = load(device=self.device)
        self.reference = RealReference(
            self.trained.test_features,
            name="test images",
            given_moments=(self.trained.mean, self.trained.covariance),
            given_moments_of="the training images",
        )

    @classmethod
    def open(cls, model: ScoreModel, *, device: torch.device | str, **_: object) -> Fashion:
        """Make the space; it is the same for every model."""
        return cls(device)

    def features(self, images: Tensor) -> Tensor:
        """Map images to features, see `features_and_logits`."""
        return self.features_and_logits(images)[0]

    @torch.no_grad()
    def features_and_logits(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Evaluate the classifier; a row does not depend on the other rows.

        Args:
            images: (N, 1, 28, 28), N >= 1, float in [0, 1], or uint8.

        Returns:
            Features (N, 64) and logits (N, 10), float32, on the CPU.

        Raises:
            UsageError: Another shape, type or range, or values that are not finite.
        """
        parts = []
        for part in torch.split(to_levels(images, SHAPE), BATCH_SIZE):
            levels = part.to(self.device, torch.float32)
            # Every call has the same shape: torch chooses kernels by the number of rows, and
            # different kernels round differently.
            rows = torch.arange(BATCH_SIZE, device=self.device) % len(part)
            features, logits = self.trained.network(levels[rows] / 255)
            parts.append((features[: len(part)].cpu(), logits[: len(part)].cpu()))
        features, logits = (torch.cat(column) for column in zip(*parts, strict=True))
        return features, logits

    def notes(self, n: int, reference_form: ReferenceForm) -> list[str]:
        """Return a caveat if n exceeds the number of test images."""
        real = len(self.reference.features)
        if reference_form == "same_size" and n > real:
            return [f"{n:,} samples are compared with all {real:,} real images of the package."]
        return []
