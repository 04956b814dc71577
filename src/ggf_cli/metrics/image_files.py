"""Read PNG and JPEG files as 8-bit sRGB levels, as an image viewer shows them.

Files whose levels are ambiguous are refused.

grey of 1, 2, 4, 8 bits, palettes, RGB   read exactly
grey of 16 bits                          rounded to 8 bits
RGB of 16 bits                           refused: Pillow drops the low bits, an error of up to 1
transparency                             refused, unless every pixel is opaque: no known background
CMYK                                     refused: its colours depend on the inks
a colour profile, or a gamma             refused, unless it is that of sRGB
orientation (EXIF)                       applied
several frames (animated PNG)            refused; of a JPEG with several pictures, the main one
"""

from __future__ import annotations

import math
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image, ImageOps

from ggf_cli.errors import UsageError
from ggf_cli.files import open_file
from ggf_cli.metrics.icc import is_srgb

SUFFIXES = {".png", ".jpg", ".jpeg"}
# Formats that are read, whatever the suffix: Pillow passes some other formats to other programs.
FORMATS = ("PNG", "JPEG")
# Suffixes of images that are not read, an error in a reference folder.
OTHERS = {
    ".avif",
    ".bmp",
    ".gif",
    ".heic",
    ".jfif",
    ".jp2",
    ".jpe",
    ".pgm",
    ".ppm",
    ".tif",
    ".tiff",
    ".webp",
}
# A folder that macOS adds to archives; its files have the names of images, but are no images.
COPIES = "__MACOSX"

_GREY_16 = ("I", "I;16", "I;16B", "I;16L", "I;16N")
_MODES = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", *_GREY_16)
_SRGB_GAMMA = 1 / 2.2
# Orientations that exchange width and height.
_TRANSPOSED = range(5, 9)


def find_images(folder: Path) -> list[Path]:
    """List all PNG and JPEG files in a folder and its subfolders, sorted by path.

    Hidden files and folders, and `__MACOSX`, are left out. Links are followed; a folder that is
    reached twice counts once.

    Raises:
        UsageError: A folder cannot be read, a name is no regular file, or there are images of
            formats that are not read.
    """
    files: list[Path] = []
    visited: set[tuple[int, int]] = set()
    for place, folders, names in os.walk(folder, onerror=_raise, followlinks=True):
        status = os.stat(place)  # noqa: PTH116
        if (status.st_dev, status.st_ino) in visited:
            folders.clear()
            continue
        visited.add((status.st_dev, status.st_ino))
        folders[:] = sorted(name for name in folders if _included(name))
        files += [Path(place, name) for name in names if _included(name) and _is_image(place, name)]
    return sorted(files)


def upright_size(file: Path) -> tuple[int, int]:
    """Read width and height, after rotation, from the header of an image file.

    Raises:
        UsageError: The file cannot be read, or its header shows that it cannot be used.
    """
    with _opened(file) as image:
        width, height = image.size
        # Not image.getexif(): it decodes a PNG file to look for metadata after the pixels.
        transposed = Image.Image.getexif(image).get(ExifTags.Base.Orientation) in _TRANSPOSED
        return (height, width) if transposed else (width, height)


def read_levels(file: Path) -> np.ndarray:
    """Read the levels of an image, rotated upright, (H, W, 3) uint8.

    Raises:
        UsageError: The file cannot be read or used.
    """
    with _opened(file) as image:
        # Reads the whole file: a PNG file may have its orientation after the pixels.
        upright = ImageOps.exif_transpose(image)
        if upright.mode in _GREY_16:
            # 65535 = 257 * 255.
            grey = (np.asarray(upright).astype(np.int64) + 128) // 257
            return np.repeat(grey.astype(np.uint8)[..., None], 3, -1)
        if "A" in image.getbands() or "transparency" in image.info:
            rgba = np.asarray(upright.convert("RGBA"))
            if rgba[..., 3].min() < 255:
                raise _unusable(file, "is transparent in places", "flatten it onto its background")
            return rgba[..., :3]
        return np.asarray(upright.convert("RGB"))


@contextmanager
def _opened(file: Path) -> Iterator[Image.Image]:
    """Open an image file and check its header."""
    try:
        with warnings.catch_warnings():
            # A warning of Pillow means that the levels may be wrong.
            warnings.simplefilter("error", UserWarning)
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with open_file(file) as content, Image.open(content, formats=FORMATS) as image:
                _check_header(file, image)
                yield image
    except UsageError:
        raise
    # Damaged files raise almost any exception.
    except Exception as error:
        raise UsageError(
            f"the reference image {file} cannot be read: {error}", hint="repair or remove the file"
        ) from error


def _check_header(file: Path, image: Image.Image) -> None:
    """Raise UsageError if the header shows that the levels are ambiguous."""
    png, info = image.format == "PNG", image.info
    if image.mode not in _MODES:
        raise _unusable(file, f"is {image.mode}, not RGB or grey", "convert it to RGB")
    if png and image.mode not in _GREY_16 and "16" in _stored_as(image):
        raise _unusable(file, "is in colour or transparent, of 16 bits", "save it with 8 bits")
    if image.mode not in ("P", "PA") and "transparency" in info:
        raise _unusable(file, "has a transparent colour", "flatten it onto its background")
    if png and (frames := getattr(image, "n_frames", 1)) > 1:
        raise _unusable(file, f"is animated, {frames} frames", "save one frame")
    if profile := info.get("icc_profile"):
        if not is_srgb(profile):
            hint = "convert it to sRGB; or remove the profile, if the model was trained without it"
            raise _unusable(file, "has a colour profile other than sRGB", hint)
    elif "srgb" not in info:
        gamma = info.get("gamma", _SRGB_GAMMA)
        if not math.isclose(gamma, _SRGB_GAMMA, rel_tol=0.02):
            raise _unusable(file, f"has a gamma of {gamma:g}", "convert it to sRGB")


def _stored_as(image: Image.Image) -> str:
    """Pillow's name of the pixel format in a PNG file, before conversion ("RGB;16B")."""
    tiles = getattr(image, "tile", None)
    return str(tiles[0][3]) if tiles else ""


def _unusable(file: Path, reason: str, hint: str) -> UsageError:
    return UsageError(f"the reference image {file} {reason}", hint=hint)


def _included(name: str) -> bool:
    return not name.startswith(".") and name != COPIES


def _is_image(place: str, name: str) -> bool:
    file = Path(place, name)
    suffix = file.suffix.lower()
    if suffix in OTHERS:
        raise UsageError(
            f"{file} is no PNG or JPEG file and cannot be read", hint="convert or remove it"
        )
    if suffix not in SUFFIXES:
        return False
    if not file.is_file():
        raise UsageError(f"{file} is no file, or a broken link", hint="repair or remove it")
    return True


def _raise(error: OSError) -> None:
    raise UsageError(f"the folder {error.filename} cannot be read: {error.strerror}") from error
