"""FFD: the Fréchet distance to the Fashion-MNIST training images, in the features of a small classifier.

It is to the embedded 28 x 28 models what FID is to photographs, and made the same way (Heusel et al. 2017,
arXiv:1706.08500), but the features are others: the two cannot be compared. docs/metrics.md says how to read it.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ggf_cli.errors import UsageError
from ggf_cli.metrics.classifier import CLASSES, FEATURES, SHAPE, load
from ggf_cli.metrics.frechet import frechet_distance, moments

BATCH_SIZE = 100
# As low as float32 arithmetic may take the edges of [0, 1]; images in [-1, 1] are far outside.
MARGIN = 1e-4


@dataclass(frozen=True, kw_only=True)
class Described:
    """What the classifier sees in images.

    Attributes:
        features: (N, 64) float32, on the CPU.
        classes: The most likely class of each image, (N,) int64; their names are `FFD.class_names`.
    """

    features: Tensor
    classes: Tensor

    def histogram(self) -> list[int]:
        """How many images there are of each class."""
        counts: list[int] = torch.bincount(self.classes, minlength=len(CLASSES)).tolist()
        return counts


class FFD:
    """Judges images (N, 1, 28, 28), float in [0, 1].

    Images are rounded to 8 bits first, as they are in the data and in a PNG file, so that a sample and its file have
    the same features.

    Args:
        device: Where the classifier runs. Distances are computed on the CPU.

    Raises:
        CheckpointError: The embedded classifier is missing or corrupt.

    Attributes:
        shape: Of one image.
        min_images: A covariance of D features from fewer than 2 D images is mostly noise; fewer are refused.
        class_names: In the order of `Described.histogram`.
    """

    shape = SHAPE
    min_images = 2 * FEATURES
    class_names = CLASSES

    def __init__(self, device: torch.device | str = "cpu") -> None:
        self.device = torch.device(device)
        self.space = load(device=self.device)

    def __call__(self, images: Tensor) -> float:
        """The distance of images to the training set, >= 0, 0 is best; depends on N, see docs/metrics.md.

        Raises:
            UsageError: As `describe` and `distance`.
        """
        return self.distance(self.describe(images).features)

    @torch.no_grad()
    def describe(self, images: Tensor) -> Described:
        """Features and classes of one image or more; a row's do not depend on the other rows.

        Raises:
            UsageError: Not images of this shape, not finite, or not in [0, 1].
        """
        _check(images)
        parts = []
        for part in torch.split(images, BATCH_SIZE):
            levels = (part.to(self.device, torch.float32) * 255).round().clamp(0, 255)
            # Every call has the same shape: kernels are chosen by the number of rows, and round differently.
            rows = torch.arange(BATCH_SIZE, device=self.device) % len(part)
            features, logits = self.space.network(levels[rows] / 255)
            parts.append((features[: len(part)].cpu(), logits[: len(part)].argmax(1).cpu()))
        features, classes = (torch.cat(column) for column in zip(*parts, strict=True))
        return Described(features=features, classes=classes)

    def distance(self, features: Tensor) -> float:
        """The distance of features (N, 64), as `describe` gives them, to those of the training set.

        Raises:
            UsageError: Fewer than `min_images`.
        """
        if len(features) < self.min_images:
            raise UsageError(
                f"FFD needs at least {self.min_images} images, not {len(features)}",
                hint="it compares covariances of 64 features; 2000 images or more are better",
            )
        return frechet_distance(*moments(features), self.space.mean, self.space.covariance)


def _check(images: Tensor) -> None:
    if images.shape[1:] != SHAPE or not images.is_floating_point() or not len(images):
        raise UsageError(
            f"FFD is for images of shape (N, 1, 28, 28), float in [0, 1], not"
            f" {images.dtype} of shape {tuple(images.shape)}",
            hint="it judges the embedded Fashion-MNIST models only",
        )
    bad = int((~torch.isfinite(images)).flatten(1).any(1).sum())
    if bad:
        raise UsageError(
            f"{bad} of {len(images)} images are not finite", hint="leave out samples that failed"
        )
    low, high = float(images.min()), float(images.max())
    if low < -MARGIN or high > 1 + MARGIN:
        raise UsageError(
            f"images are from {low:.4g} to {high:.4g}, they must be in [0, 1]",
            hint="(x + 1) / 2 for data in [-1, 1]",
        )
