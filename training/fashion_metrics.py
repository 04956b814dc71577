"""FFD, class counts and nearest training images of Fashion-MNIST samples.

For the scripts in training/ and benchmarks/, and for tests. `ggf compare` computes FFD by
`ggf_cli.metrics.evaluator`.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ggf_cli.errors import UsageError
from ggf_cli.metrics.classifier import CLASSES
from ggf_cli.metrics.fashion import Fashion
from ggf_cli.metrics.frechet import frechet

# Rows of the distance matrix computed at a time: 500 x 60,000 distances are 120 MB.
ROWS = 500


@dataclass(frozen=True, kw_only=True)
class Classification:
    """Features and classes of images.

    Attributes:
        features: (N, 64) float32, on the CPU.
        classes: The most likely class of each image, (N,) int64, an index of `FFD.class_names`.
    """

    features: Tensor
    classes: Tensor

    def histogram(self) -> list[int]:
        """Count the images of each class."""
        counts: list[int] = torch.bincount(self.classes, minlength=len(CLASSES)).tolist()
        return counts


class FFD:
    """The Fréchet distance to the Fashion-MNIST training images, in features of a classifier.

    It is computed like FID (Heusel et al. 2017, arXiv:1706.08500), but from other features: the two
    cannot be compared. See docs/reference/metrics.md.

    Args:
        device: Device of the classifier. Distances are computed on the CPU.

    Raises:
        CheckpointError: The classifier in the package is missing or corrupt.

    Attributes:
        min_images: The minimum number of images.
        class_names: In the order of `Classification.histogram`.
    """

    min_images = Fashion.min_samples
    class_names = CLASSES

    def __init__(self, device: torch.device | str = "cpu") -> None:
        self.space = Fashion(device)

    def __call__(self, images: Tensor) -> float:
        """Compute the distance, >= 0, of images (N, 1, 28, 28) to the training set.

        Raises:
            UsageError: As `classify` and `distance`.
        """
        return self.distance(self.space.features(images))

    def classify(self, images: Tensor) -> Classification:
        """Compute features and classes; a row does not depend on the other rows.

        Args:
            images: (N, 1, 28, 28), N >= 1, float in [0, 1], or uint8. Floats are rounded to 8 bits.

        Raises:
            UsageError: Another shape, type or range, or values that are not finite.
        """
        features, logits = self.space.features_and_logits(images)
        return Classification(features=features, classes=logits.argmax(1))

    def distance(self, features: Tensor) -> float:
        """Compute the distance, >= 0, of features (N, 64) to those of the training set.

        Raises:
            UsageError: Fewer than `min_images`.
        """
        if len(features) < self.min_images:
            raise UsageError(
                f"FFD needs at least {self.min_images} images, not {len(features)}",
                hint="it compares covariances of 64 features; 2000 images or more are better",
            )
        return frechet(features, *self.space.reference.moments())


def nearest_distances(images: Tensor, others: Tensor, *, themselves: bool = False) -> Tensor:
    """Euclidean distance of each image to the nearest of `others`, (N,) float32.

    Differences under about 0.02 of images with 784 values in [-1, 1] are lost in round-off: the
    distance is computed from scalar products.

    Args:
        images: (N, *), float32.
        others: (M, *), of the same sample shape.
        themselves: `others` are `images`: each image is compared with all others, M >= 2.
    """
    x, y = images.flatten(1), others.flatten(1)
    y_norms = y.square().sum(1)
    nearest = []
    for start in range(0, len(x), ROWS):
        part = x[start : start + ROWS]
        # Without |part|^2, which does not change the order.
        squared = torch.addmm(y_norms, part, y.T, alpha=-2)
        if themselves:
            rows = torch.arange(len(part))
            squared[rows, start + rows] = torch.inf
        nearest.append((squared.amin(1) + part.square().sum(1)).clamp(min=0).sqrt())
    return torch.cat(nearest)
