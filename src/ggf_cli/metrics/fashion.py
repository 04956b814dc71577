"""Images in the features of the small Fashion-MNIST classifier, against Fashion-MNIST.

Moments are compared with those of the 60,000 training images; sets of features with those of test images, which are shipped
too: they serve as real images that neither the moments nor a network trained on the training set knows.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor

from ggf_cli.metrics.checks import to_levels
from ggf_cli.metrics.classifier import CLASSES, FEATURES, SHAPE, load
from ggf_cli.metrics.reference import Real
from ggf_cli.metrics.registry import Against

if TYPE_CHECKING:
    from ggf_cli.score import ScoreModel

BATCH_SIZE = 100


@dataclass(frozen=True, kw_only=True)
class Described:
    """What the classifier sees in images.

    Attributes:
        features: (N, 64) float32, on the CPU.
        classes: The most likely class of each image, (N,) int64; their names are `Fashion.class_names`.
    """

    features: Tensor
    classes: Tensor

    def histogram(self) -> list[int]:
        """How many images there are of each class."""
        counts: list[int] = torch.bincount(self.classes, minlength=len(CLASSES)).tolist()
        return counts


class Fashion:
    """The space of the classifier's features.

    Args:
        device: Where the classifier runs.

    Raises:
        CheckpointError: The embedded classifier is missing or corrupt.
    """

    sample_form: Literal["images"] = "images"
    what = "features of a small Fashion-MNIST classifier"
    fewest = 2 * FEATURES  # a covariance of D features from fewer than 2 D images is mostly noise
    class_names = CLASSES

    def __init__(self, device: torch.device | str = "cpu") -> None:
        self.device = torch.device(device)
        self.trained = load(device=self.device)
        self.reference = Real(
            self.trained.test_features,
            what="test images",
            known=(self.trained.mean, self.trained.covariance),
            known_of="the training images",
        )

    @classmethod
    def open(cls, model: ScoreModel, *, device: torch.device | str, **options: Any) -> Fashion:
        """The same for every model."""
        return cls(device)

    def features(self, piece: Tensor) -> Tensor:
        """(N, 1, 28, 28) -> (N, 64)."""
        return self.describe(piece).features

    @torch.no_grad()
    def describe(self, images: Tensor) -> Described:
        """Features and classes of one image or more; a row's do not depend on the other rows.

        Args:
            images: (N, 1, 28, 28), float in [0, 1], or uint8.

        Raises:
            UsageError: Not such images.
        """
        parts = []
        for part in torch.split(to_levels(images, SHAPE, "FFD"), BATCH_SIZE):
            levels = part.to(self.device, torch.float32)
            # Every call has the same shape: kernels are chosen by the number of rows, and round differently.
            rows = torch.arange(BATCH_SIZE, device=self.device) % len(part)
            features, logits = self.trained.network(levels[rows] / 255)
            parts.append((features[: len(part)].cpu(), logits[: len(part)].argmax(1).cpu()))
        features, classes = (torch.cat(column) for column in zip(*parts, strict=True))
        return Described(features=features, classes=classes)

    def notes(self, n: int, against: Against) -> list[str]:
        """What is not as it should be for so many samples."""
        real = len(self.reference.features)
        if against == "as many" and n > real:
            return [f"{n:,} samples are compared with {real:,} real images, all that are shipped."]
        return []
