"""Writes a run: samples as they finish, then the grid and `run.json`."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from torch import Tensor

from ggf_cli.engine import Finished, Outcome
from ggf_cli.errors import UsageError
from ggf_cli.output.folder import OutputFolder
from ggf_cli.output.images import TILE, grid, png, to_uint8

Format = Literal["png", "npz", "none"]


class RunWriter:
    """Receives finished samples and puts them where they belong.

    Args:
        folder: Where to.
        indices: All sample indices of the run, in the order of the grid.
        shape: Shape of one sample.
        format: "png": one file a sample, at once; "npz": one file for all, at the end; "none".
        grid_size: Rows and columns of the grid, or None for a near-square one of at most 64 images.

    Attributes:
        folder: Where to.
        samples: A line of the run log for each sample so far.
        lost: Those that did not reach the end.
    """

    def __init__(
        self,
        folder: OutputFolder,
        indices: Sequence[int],
        shape: tuple[int, ...],
        *,
        format: Format = "png",
        grid_size: tuple[int, int] | None = None,
    ) -> None:
        self.folder = folder
        self._format = format
        self._images = are_images(shape)
        self._grid_size = grid_size or near_square(min(len(indices), 64))
        places = self._grid_size[0] * self._grid_size[1]
        self._on_grid: dict[int, Tensor | None] = dict.fromkeys(indices[:places])
        self._arrays: list[tuple[Finished, np.ndarray]] = []
        self.samples: list[dict[str, Any]] = []
        self.lost: list[Finished] = []

    def add(self, finished: Finished) -> None:
        """Take one sample; with format "png" its file is on disk when this returns."""
        file = None
        if finished.outcome is Outcome.DONE:
            if self._format == "png":
                file = f"samples/{finished.index:06d}.png"
                self.folder.write(file, png(finished.image))
            elif self._format == "npz":
                file = "samples.npz"
                array = to_uint8(finished.image) if self._images else finished.x.numpy()
                self._arrays.append((finished, array))
            if finished.index in self._on_grid:
                self._on_grid[finished.index] = finished.image
        else:
            self.lost.append(finished)
        self.samples.append(
            {
                "index": finished.index,
                "nfe": finished.nfe,
                "accepted": finished.accepted,
                "rejected": finished.rejected,
                "status": str(finished.outcome),
                "file": file,
            }
        )

    def close(self, text: dict[str, str]) -> None:
        """Write what waits for the end: the .npz file, and the grid if there is anything to draw.

        Args:
            text: For the text chunks of the grid.
        """
        self.samples.sort(key=lambda sample: sample["index"])
        if self._arrays:
            self.folder.write("samples.npz", _npz(self._arrays))
        images = list(self._on_grid.values())
        if self._images and any(image is not None for image in images):
            self.folder.write("grid.png", png(grid(images, *self._grid_size), text))


def are_images(shape: tuple[int, ...]) -> bool:
    """Whether samples of this shape can be drawn."""
    return len(shape) == 3 and shape[0] in (1, 3)


def check_request(
    shape: tuple[int, ...], format: Format, grid_size: tuple[int, int] | None
) -> None:
    """Refuse what could not be written, before anything is touched.

    Raises:
        UsageError: No images and format "png", or a grid of more than 2^28 pixels.
    """
    if format == "png" and not are_images(shape):
        raise UsageError(
            f"samples of shape {shape} are not images of 1 or 3 channels", hint="use --format npz"
        )
    if grid_size and are_images(shape):
        pixels = grid_size[0] * grid_size[1] * max(TILE, shape[1]) * max(TILE, shape[2])
        if pixels > 2**28:
            raise UsageError(
                f"--grid {grid_size[0]}x{grid_size[1]} has {pixels:.1e} pixels for samples of {shape}",
                hint="a smaller grid; the samples are files of their own",
            )


def near_square(n: int) -> tuple[int, int]:
    """Rows and columns for n images, at least as wide as high."""
    columns = max(1, int(np.ceil(np.sqrt(n))))
    return -(-n // columns), columns


def _npz(arrays: list[tuple[Finished, np.ndarray]]) -> bytes:
    """images (N, H, W, C) uint8 (or the raw states), index (N,), nfe (N,); by sample index."""
    arrays = sorted(arrays, key=lambda pair: pair[0].index)
    buffer = io.BytesIO()
    np.savez(
        buffer,
        images=np.stack([array for _, array in arrays]),
        index=np.array([finished.index for finished, _ in arrays]),
        nfe=np.array([finished.nfe for finished, _ in arrays]),
    )
    return buffer.getvalue()
