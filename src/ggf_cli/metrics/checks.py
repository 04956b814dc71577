"""Whether samples can be judged, and images as the 8-bit levels that they are written as."""

from __future__ import annotations

import torch
from torch import Tensor

from ggf_cli.errors import UsageError

# As low as float32 arithmetic may take the edges of [0, 1]; images in [-1, 1] are far outside.
MARGIN = 1e-4


def to_levels(images: Tensor, shape: tuple[int, ...], metric: str) -> Tensor:
    """Images as they would be in a PNG file, so that a sample and its file are judged alike.

    Args:
        images: (N, *shape), N >= 1, float in [0, 1], or uint8.
        shape: (C, H, W).
        metric: What is for images of this shape, for messages.

    Returns:
        uint8, of the same shape.

    Raises:
        UsageError: Not such images.
    """
    kind = images.is_floating_point() or images.dtype == torch.uint8
    if tuple(images.shape[1:]) != tuple(shape) or not kind or not len(images):
        size = ", ".join(map(str, shape))
        raise UsageError(
            f"{metric} is for images of shape (N, {size}), float in [0, 1] or uint8, not"
            f" {images.dtype} of shape {tuple(images.shape)}"
        )
    if images.dtype == torch.uint8:
        return images
    check_finite(images)
    low, high = float(images.min()), float(images.max())
    if low < -MARGIN or high > 1 + MARGIN:
        raise UsageError(
            f"images are from {low:.4g} to {high:.4g}, they must be in [0, 1]",
            hint="(x + 1) / 2 for data in [-1, 1]",
        )
    return (images.float() * 255).round().clamp(0, 255).to(torch.uint8)


def check_finite(samples: Tensor) -> None:
    """Refuse samples (N, *) that are not numbers.

    Raises:
        UsageError: It says how many.
    """
    bad = int((~torch.isfinite(samples)).flatten(1).any(1).sum())
    if bad:
        raise UsageError(
            f"{bad} of {len(samples)} samples are not finite", hint="leave out samples that failed"
        )
