"""Whether an ICC colour profile, as images carry one, is that of sRGB."""

from __future__ import annotations

import io
from functools import lru_cache

import numpy as np
from PIL import Image, ImageCms

LEVELS = 2  # of 255: so far are the many small sRGB profiles from each other


@lru_cache(maxsize=64)  # the images of a folder mostly share one
def is_srgb(profile: bytes) -> bool:
    """Whether colours by this profile are those of sRGB to 2 of 255 levels.

    Args:
        profile: The content of an ICC profile, of RGB or grey images; others are not sRGB.

    Raises:
        OSError: It is damaged.
        PyCMSError: It cannot be used.
    """
    found = ImageCms.ImageCmsProfile(io.BytesIO(profile))
    colours = {"RGB ": _colours(), "GRAY": _greys()}.get(found.profile.xcolor_space)
    if colours is None:
        return False
    srgb = ImageCms.createProfile("sRGB")
    shown = ImageCms.profileToProfile(
        colours,
        found,
        srgb,
        renderingIntent=ImageCms.Intent.RELATIVE_COLORIMETRIC,
        outputMode="RGB",
    )
    moved = np.asarray(shown, int) - np.asarray(colours.convert("RGB"), int)
    return bool(np.abs(moved).max() <= LEVELS)


def _colours() -> Image.Image:
    """A grid of RGB colours, grey ones among them."""
    steps = np.linspace(0, 255, 16).round().astype(np.uint8)
    return Image.fromarray(np.stack(np.meshgrid(steps, steps, steps), -1).reshape(64, 64, 3))


def _greys() -> Image.Image:
    return Image.fromarray(np.arange(256, dtype=np.uint8)[None])
