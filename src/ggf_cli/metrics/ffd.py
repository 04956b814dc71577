"""FFD: the Fréchet distance to the Fashion-MNIST training images, in the features of a small classifier.

It is to the embedded 28 x 28 models what FID is to photographs, and made the same way (Heusel et al. 2017,
arXiv:1706.08500), but the features are others: the two cannot be compared. docs/reference/metrics.md says how to read it.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ggf_cli.errors import UsageError
from ggf_cli.metrics.classifier import SHAPE
from ggf_cli.metrics.fashion import Described, Fashion
from ggf_cli.metrics.frechet import frechet


class FFD:
    """Judges images (N, 1, 28, 28), float in [0, 1] or uint8.

    Images are rounded to 8 bits first, as they are in the data and in a PNG file, so that a sample and its file have
    the same features.

    Args:
        device: Where the classifier runs. Distances are computed on the CPU.

    Raises:
        CheckpointError: The embedded classifier is missing or corrupt.

    Attributes:
        shape: Of one image.
        min_images: Fewer are refused.
        class_names: In the order of `Described.histogram`.
    """

    shape = SHAPE
    min_images = Fashion.fewest
    class_names = Fashion.class_names

    def __init__(self, device: torch.device | str = "cpu") -> None:
        self.space = Fashion(device)

    def __call__(self, images: Tensor) -> float:
        """The distance of images to the training set, >= 0, 0 is best; depends on N, see docs/reference/metrics.md.

        Raises:
            UsageError: As `describe` and `distance`.
        """
        return self.distance(self.describe(images).features)

    def describe(self, images: Tensor) -> Described:
        """Features and classes of one image or more, see `Fashion.describe`."""
        return self.space.describe(images)

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
        return frechet(features, *self.space.reference.moments())
