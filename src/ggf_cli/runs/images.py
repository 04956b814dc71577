"""Encode images and grids as PNG. Images are float32 in [0, 1], (C, H, W), C = 1 or 3."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from torch import Tensor

# Pixels between the images of a grid.
GAP = 2
# In a grid, smaller images are enlarged by a whole factor to at least this many pixels.
TILE = 64


def png(image: Tensor, text: Mapping[str, str] | None = None) -> bytes:
    """Encode one image as PNG.

    Args:
        image: (C, H, W), float in [0, 1].
        text: Written into the file's text chunks.
    """
    chunks = PngInfo()
    for key, value in (text or {}).items():
        chunks.add_itxt(key, value)
    buffer = io.BytesIO()
    levels = to_uint8(image)
    Image.fromarray(levels[..., 0] if len(image) == 1 else levels).save(
        buffer, "PNG", pnginfo=chunks
    )
    return buffer.getvalue()


def to_uint8(image: Tensor) -> np.ndarray:
    """(C, H, W) float in [0, 1] -> (H, W, C) uint8, rounded."""
    # With numpy: torch would start a thread pool in each thread that uses it.
    levels: np.ndarray = (
        np.rint(image.numpy() * np.float32(255)).astype(np.uint8).transpose(1, 2, 0)
    )
    return levels


def grid(images: Sequence[Tensor | None], rows: int, columns: int) -> Tensor:
    """Arrange images in rows on a white background, (C, H', W'). Missing images stay white.

    Args:
        images: At most rows * columns, at least one not None, all of one shape.
        rows: Number of rows.
        columns: Number of columns.
    """
    channels, height, width = next(image for image in images if image is not None).shape
    scale = max(1, -(-TILE // max(height, width)))
    height, width = scale * height, scale * width
    sheet = torch.ones(
        channels, rows * (height + GAP) + GAP, columns * (width + GAP) + GAP, dtype=torch.float32
    )
    for place, image in enumerate(images):
        if image is not None:
            top = GAP + place // columns * (height + GAP)
            left = GAP + place % columns * (width + GAP)
            tile = image.repeat_interleave(scale, 1).repeat_interleave(scale, 2)
            sheet[:, top : top + height, left : left + width] = tile
    return sheet
