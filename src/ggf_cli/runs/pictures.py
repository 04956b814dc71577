"""Which picture of its samples a run has: a grid of images, or a plot of points or signals."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

Picture = Literal["grid", "scatter", "histogram", "lines"]

# The files of a run with a picture: the grid of images, or a plot.
GRID, PLOT = "grid.png", "samples.png"
PICTURES = (GRID, PLOT)
# More points in a plot hide each other.
MAX_POINTS = 10_000
# More line plots are too small to be read, and take minutes to draw.
MAX_SIGNALS = 256
# Lines in one plot.
MAX_CHANNELS = 16
MIN_LENGTH = 3


def picture_of(shape: Sequence[int], images: bool) -> Picture | None:
    """The picture of samples of a shape; None if they have none, as volumes.

        (C, H, W), C = 1 or 3    "grid", if they are images
        (2,)                     "scatter": points of the plane
        (1,)                     "histogram": numbers
        (L,) and (C, L)          "lines": signals of length L >= 3 with at most 16 channels

    Args:
        shape: The shape of one sample.
        images: Whether the model has a data range; without one samples are not images.
    """
    match tuple(shape):
        case (1 | 3, _, _):
            return "grid" if images else None
        case (2,):
            return "scatter"
        case (1,):
            return "histogram"
        case (length,) if length >= MIN_LENGTH:
            return "lines"
        case (channels, length) if channels <= MAX_CHANNELS and length >= MIN_LENGTH:
            return "lines"
    return None


def pictured(
    picture: Picture | None, indices: Sequence[int], grid: tuple[int, int] | None
) -> Sequence[int]:
    """The sample indices in the picture of a run: the first ones.

    Args:
        picture: The picture.
        indices: All sample indices of the run, in order.
        grid: Rows and columns; None: a run without a picture.
    """
    if picture is None or grid is None:
        return ()
    if picture in ("scatter", "histogram"):
        return indices[:MAX_POINTS]
    return indices[: grid[0] * grid[1]]
