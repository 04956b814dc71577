"""Comparison of the ICC colour profile of an image with sRGB."""

from __future__ import annotations

import io
from functools import lru_cache

import numpy as np
from PIL import Image, ImageCms

# Of 255. The many small sRGB profiles in use differ from each other by up to this.
LEVELS = 2


# Cached because the images of a folder mostly have the same profile.
@lru_cache(maxsize=64)
def is_srgb(profile: bytes) -> bool:
    """Check whether a profile gives the colours of sRGB, to within 2 of 255 levels.

    Args:
        profile: The content of an ICC profile. Profiles of other than RGB or grey images are not
            sRGB.

    Raises:
        OSError: The profile is damaged.
        PyCMSError: The profile cannot be used.
    """
    found = ImageCms.ImageCmsProfile(io.BytesIO(profile))
    colours = {"RGB ": _colours(), "GRAY": _greys()}.get(found.profile.xcolor_space)
    if colours is None:
        return False
    srgb = ImageCms.createProfile("sRGB")
    converted = ImageCms.profileToProfile(
        colours,
        found,
        srgb,
        renderingIntent=ImageCms.Intent.RELATIVE_COLORIMETRIC,
        outputMode="RGB",
    )
    difference = np.asarray(converted, int) - np.asarray(colours.convert("RGB"), int)
    return bool(np.abs(difference).max() <= LEVELS)


def _colours() -> Image.Image:
    """A grid of RGB colours, which includes greys."""
    steps = np.linspace(0, 255, 16).round().astype(np.uint8)
    return Image.fromarray(np.stack(np.meshgrid(steps, steps, steps), -1).reshape(64, 64, 3))


def _greys() -> Image.Image:
    """All 256 levels of grey."""
    return Image.fromarray(np.arange(256, dtype=np.uint8)[None])
