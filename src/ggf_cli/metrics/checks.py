"""Validation of samples, and conversion of images to 8-bit levels."""

from __future__ import annotations

import torch
from torch import Tensor

from ggf_cli.errors import UsageError

# Float32 arithmetic may move the edges of [0, 1] by less than this; images in [-1, 1] are far
# outside.
MARGIN = 1e-4


def to_levels(images: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Round images to 8 bits as in a PNG file, so that a sample and its file get the same value.

    Args:
        images: (N, C, H, W), N >= 1, float in [0, 1], or uint8.
        shape: The expected (C, H, W).

    Returns:
        (N, C, H, W) uint8.

    Raises:
        UsageError: Another shape, type or range, no image, or values that are not finite.
    """
    valid_type = images.is_floating_point() or images.dtype == torch.uint8
    if tuple(images.shape[1:]) != tuple(shape) or not valid_type or not len(images):
        size = ", ".join(map(str, shape))
        raise UsageError(
            f"images must have shape (N, {size}), N >= 1, and be float in [0, 1] or uint8,"
            f" not {images.dtype} of shape {tuple(images.shape)}"
        )
    if images.dtype == torch.uint8:
        return images
    check_finite(images)
    low, high = float(images.min()), float(images.max())
    if low < -MARGIN or high > 1 + MARGIN:
        raise UsageError(
            f"image values range from {low:.4g} to {high:.4g}, they must be in [0, 1]",
            hint="(x + 1) / 2 for data in [-1, 1]",
        )
    return (images.float() * 255).round().clamp(0, 255).to(torch.uint8)


def check_finite(samples: Tensor) -> None:
    """Raise an error if any of the samples (N, *) has a NaN or an infinity.

    Raises:
        UsageError: Some are not finite; the message has their number.
    """
    count = int((~torch.isfinite(samples)).flatten(1).any(1).sum())
    if count:
        raise UsageError(
            f"{count} of {len(samples)} samples are not finite",
            hint="leave out samples that failed",
        )
