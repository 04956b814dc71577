"""Trajectories of a run as images: a strip for each sample on the grid, and one animation.

A strip has one column for each noise level, from T to t_eps: the state above, the denoised estimate
below. The animation has one frame for each noise level, the grid of the denoised estimates.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import torch
from msgspec import UnsetType
from PIL import Image, features
from torch import Tensor

from ggf_cli.engine import FinishedSample
from ggf_cli.errors import OutputError, UsageError
from ggf_cli.files import read_file, sha256, sha256_of
from ggf_cli.runs.documents import FileLog
from ggf_cli.runs.images import GAP, TILE, grid, png, to_uint8
from ggf_cli.runs.layout import ANIMATION, STRIPS, write_atomically

# Pixels of an image in one direction, by the format, and pixels of all frames.
MAX_SIDE = 16_383
MAX_PIXELS = 2**28
# Milliseconds that a frame is shown, and the last one.
FRAME_MS, LAST_MS = 250, 2000


class Strips:
    """The strips and the animation of a run.

    Args:
        folder: The folder of the run.
        shape: The shape of a sample, (C, H, W).
        levels: Number of noise levels, k.
        data_range: Smallest and largest value of the data.
        grid_size: Rows and columns of the animation.
    """

    def __init__(
        self,
        folder: Path,
        shape: tuple[int, ...],
        *,
        levels: int,
        data_range: Sequence[float],
        grid_size: tuple[int, int],
    ) -> None:
        self._folder, self._levels, self._grid_size = folder, levels, grid_size
        self._low, self._high = data_range
        self._side = side(shape)
        # A PNG file of noise exceeds its pixels by a few per cent.
        self._largest = 2 * 2 * levels * (self._side[0] + GAP) * (self._side[1] + GAP) * 3 + 2**16

    def write(self, finished: FinishedSample) -> str:
        """Write the strip of a sample; returns its sha256.

        Raises:
            OutputError: Disk full, or not writable.
        """
        trajectory = finished.trajectory
        assert trajectory is not None
        states = [self._image(x) for x in (*trajectory.x, *trajectory.denoised)]
        content = png(grid(states, 2, self._levels))
        write_atomically(self._path(finished.index), content)
        return sha256_of(content)

    def intact(self, index: int, expected: str | UnsetType) -> bool:
        """Whether the strip of a sample still has its sha256."""
        try:
            return sha256(self._path(index), self._largest) == expected
        except OSError:
            return False

    def file(self, index: int, sha256: str) -> FileLog:
        """The line of a strip in `run.json`."""
        return FileLog(path=str(self._path(index).relative_to(self._folder)), sha256=sha256)

    def write_animation(self, indices: Iterable[int | None]) -> FileLog:
        """Write the animation of samples in the order of the grid; None leaves a place empty.

        Raises:
            OutputError: Disk full, not writable, or a strip is missing or damaged.
        """
        tiles = [None if index is None else self._denoised(index) for index in indices]
        frames = []
        for level in range(self._levels):
            images = [None if tile is None else tile[level] for tile in tiles]
            levels = to_uint8(grid(images, *self._grid_size))
            frames.append(Image.fromarray(np.repeat(levels, 3 // levels.shape[2], axis=2)))
        buffer = io.BytesIO()
        frames[0].save(
            buffer,
            "WEBP",
            save_all=True,
            append_images=frames[1:],
            duration=[FRAME_MS] * (len(frames) - 1) + [LAST_MS],
            loop=0,
            lossless=True,
        )
        content = buffer.getvalue()
        write_atomically(self._folder / ANIMATION, content, durable=True)
        return FileLog(path=ANIMATION, sha256=sha256_of(content))

    def _path(self, index: int) -> Path:
        return self._folder / STRIPS / f"{index:06d}.png"

    def _image(self, x: Tensor) -> Tensor:
        """A state (*shape) as an image in [0, 1]; NaN is black."""
        scaled = (x.float() - self._low) / (self._high - self._low)
        return scaled.nan_to_num(0.0).clamp(0, 1)

    def _denoised(self, index: int) -> list[Tensor]:
        """The denoised estimates of a strip, k images (C, H', W') float32 in [0, 1]."""
        path = self._path(index)
        try:
            content = io.BytesIO(read_file(path, self._largest))
            with Image.open(content, formats=("PNG",)) as image:
                levels = np.asarray(image)
        # Damage can surface as almost any exception.
        except Exception as error:
            raise OutputError(f"cannot read the strip {path} back: {error}") from error
        levels = levels[..., None] if levels.ndim == 2 else levels
        strip = torch.from_numpy(levels.transpose(2, 0, 1).copy()).float() / 255
        height, width = self._side
        top = GAP + height + GAP
        lefts = (GAP + level * (width + GAP) for level in range(self._levels))
        return [strip[:, top : top + height, left : left + width] for left in lefts]


def side(shape: tuple[int, ...]) -> tuple[int, int]:
    """Height and width of a sample (C, H, W) on a grid, which enlarges small images."""
    scale = max(1, -(-TILE // max(shape[1:])))
    return scale * shape[1], scale * shape[2]


def check_size(shape: tuple[int, ...], levels: int, grid_size: tuple[int, int]) -> None:
    """Check that the strips and the animation of a run can be written.

    Args:
        shape: The shape of a sample, (C, H, W).
        levels: Number of noise levels.
        grid_size: Rows and columns of the animation.

    Raises:
        UsageError: They are too large, or Pillow cannot write WebP.
    """
    if not features.check("webp"):
        raise UsageError("this Pillow cannot write WebP, which `trajectory` needs")
    height, width = side(shape)
    frame = grid_size[0] * (height + GAP) + GAP, grid_size[1] * (width + GAP) + GAP
    pixels = levels * max(frame[0] * frame[1], 2 * height * width)
    if max(frame) > MAX_SIDE or pixels > MAX_PIXELS:
        raise UsageError(
            f"{levels} noise levels of a grid of {frame[1]}x{frame[0]} pixels are too many for an"
            " animation",
            hint="use fewer levels for `trajectory`, or a smaller `grid`",
        )
