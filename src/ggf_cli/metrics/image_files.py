"""PNG and JPEG files as the 8-bit sRGB levels that a viewer shows; what has none that are beyond doubt is refused.

grey of 1, 2, 4, 8 bits, palettes, RGB      to the level
grey of 16 bits                             rounded to 8
RGB of 16 bits                              refused: Pillow cuts the low bits off, up to a level wrong
transparency                                refused, unless every pixel is opaque: what lies behind it is not known
CMYK                                        refused: its colours depend on the inks
a colour profile, or a gamma                refused, unless it is that of sRGB
orientation (EXIF)                          applied
several frames (animated PNG)               refused; of a JPEG with several pictures the main one
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
FORMATS = ("PNG", "JPEG")  # whatever the name says: Pillow gives other formats to other programs
OTHERS = {".avif", ".bmp", ".gif", ".heic", ".jfif", ".jp2", ".jpe", ".pgm", ".ppm", ".tif", ".tiff", ".webp"}  # fmt: skip
COPIES = "__MACOSX"  # what macOS adds to archives: no images, with the names of images

_GREY_16 = ("I", "I;16", "I;16B", "I;16L", "I;16N")
_MODES = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", *_GREY_16)
_SRGB_GAMMA = 1 / 2.2
_LYING = range(5, 9)  # orientations that exchange width and height


def find_images(folder: Path) -> list[Path]:
    """All PNG and JPEG files in a folder and the folders in it, by name.

    Hidden files and folders, and `__MACOSX`, are left out. Links are followed; a folder that is reached twice counts once.

    Raises:
        UsageError: A folder cannot be read, a name leads to no file, or there are images of formats that are not read.
    """
    files: list[Path] = []
    seen: set[tuple[int, int]] = set()
    for place, folders, names in os.walk(folder, onerror=_stop, followlinks=True):
        status = os.stat(place)  # noqa: PTH116
        if (status.st_dev, status.st_ino) in seen:
            folders.clear()
            continue
        seen.add((status.st_dev, status.st_ino))
        folders[:] = sorted(name for name in folders if _counts(name))
        files += [Path(place, name) for name in names if _counts(name) and _is_image(place, name)]
    return sorted(files)


def upright_size(file: Path) -> tuple[int, int]:
    """Width and height as a viewer shows the image, from the head of the file.

    Raises:
        UsageError: It cannot be read, or its head tells that it cannot be used.
    """
    with _opened(file) as image:
        width, height = image.size
        # not image.getexif(), which decodes a PNG file to look for what may come after its pixels
        turned = Image.Image.getexif(image).get(ExifTags.Base.Orientation) in _LYING
        return (height, width) if turned else (width, height)


def read_levels(file: Path) -> np.ndarray:
    """The upright image, (H, W, 3) uint8.

    Raises:
        UsageError: It cannot be read or used.
    """
    with _opened(file) as image:
        upright = ImageOps.exif_transpose(image)  # reads to the end: a PNG file may tell it there
        if upright.mode in _GREY_16:
            grey = (np.asarray(upright).astype(np.int64) + 128) // 257  # 65535 = 257 * 255
            return np.repeat(grey.astype(np.uint8)[..., None], 3, -1)
        if "A" in image.getbands() or "transparency" in image.info:
            rgba = np.asarray(upright.convert("RGBA"))
            if rgba[..., 3].min() < 255:
                raise _unusable(file, "is transparent in places", "flatten it onto its background")
            return rgba[..., :3]
        return np.asarray(upright.convert("RGB"))


@contextmanager
def _opened(file: Path) -> Iterator[Image.Image]:
    """The image with its head read and found usable."""
    try:
        with warnings.catch_warnings():
            # where Pillow doubts what it reads, so do we
            warnings.simplefilter("error", UserWarning)
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with open_file(file) as content, Image.open(content, formats=FORMATS) as image:
                _check_head(file, image)
                yield image
    except UsageError:
        raise
    except Exception as error:  # damage can surface as almost anything
        raise UsageError(
            f"the reference image {file} cannot be read: {error}", hint="mend or remove the file"
        ) from error


def _check_head(file: Path, image: Image.Image) -> None:
    png, info = image.format == "PNG", image.info
    if image.mode not in _MODES:
        raise _unusable(file, f"is {image.mode}, not RGB or grey", "convert it to RGB")
    if png and image.mode not in _GREY_16 and "16" in _stored_as(image):
        raise _unusable(file, "is in colour or transparent, of 16 bits", "save it with 8 bits")
    if image.mode not in ("P", "PA") and "transparency" in info:
        raise _unusable(file, "has a transparent colour", "flatten it onto its background")
    if png and getattr(image, "n_frames", 1) > 1:
        raise _unusable(file, f"is animated, {image.n_frames} frames", "save one frame")  # type: ignore[attr-defined]
    if profile := info.get("icc_profile"):
        if not is_srgb(profile):
            hint = "convert it to sRGB; or remove the profile, if the model has seen these levels"
            raise _unusable(file, "has a colour profile other than sRGB", hint)
    elif "srgb" not in info and not math.isclose(info.get("gamma", _SRGB_GAMMA), _SRGB_GAMMA, rel_tol=0.02):  # fmt: skip
        raise _unusable(file, f"has a gamma of {info['gamma']:g}", "convert it to sRGB")


def _stored_as(image: Image.Image) -> str:
    """What Pillow calls the pixels of a PNG file before they are of the image's mode: "RGB;16B"."""
    tiles = getattr(image, "tile", None)
    return str(tiles[0][3]) if tiles else ""


def _unusable(file: Path, what: str, hint: str) -> UsageError:
    return UsageError(f"the reference image {file} {what}", hint=hint)


def _counts(name: str) -> bool:
    return not name.startswith(".") and name != COPIES


def _is_image(place: str, name: str) -> bool:
    file = Path(place, name)
    suffix = file.suffix.lower()
    if suffix in OTHERS:
        raise UsageError(
            f"{file} is no PNG or JPEG file, and would not count", hint="convert or remove it"
        )
    if suffix not in SUFFIXES:
        return False
    if not file.is_file():
        raise UsageError(f"{file} is no file, or a link to none", hint="mend or remove it")
    return True


def _stop(error: OSError) -> None:
    raise UsageError(f"the folder {error.filename} cannot be read: {error.strerror}") from error
