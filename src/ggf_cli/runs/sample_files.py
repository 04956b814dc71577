"""Where the pixels of a run's samples are: PNG files, .npz files, or nowhere but on the grid.

Every sample is on the disk as soon as it is finished. What has no file of its own waits in one under `.parts`: samples of an .npz file
until that is complete, samples of the grid until that is drawn.
"""

from __future__ import annotations

import io
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal

import numpy as np
from PIL import Image

from ggf_cli.engine import FinishedSample
from ggf_cli.errors import OutputError
from ggf_cli.files import read_file, sha256, sha256_of
from ggf_cli.runs.images import png, to_uint8
from ggf_cli.runs.layout import PARTS, write_atomically

Format = Literal["png", "npz", "none"]

# An .npz file of a long run is written when its samples are finished, from memory.
SHARD_SAMPLES = 1000
SHARD_BYTES = 2**26


class PixelFiles:
    """The files with the pixels of one run.

    Args:
        folder: Of the run.
        indices: All sample indices, in their order.
        shape: Of one sample.
        format: How samples are stored.
        on_grid: Which of them the grid shows.
        images: Whether samples are pictures; else the states themselves are stored.
    """

    def __init__(
        self,
        folder: Path,
        indices: Sequence[int],
        shape: tuple[int, ...],
        *,
        format: Format,
        on_grid: Collection[int],
        images: bool,
    ) -> None:
        self._folder = folder
        self._format = format
        self._on_grid = on_grid
        self._images = images
        size = int(np.prod(shape)) * (1 if images else 4)
        self._per_shard = max(1, min(SHARD_SAMPLES, SHARD_BYTES // size))
        # No file of ours is larger: a PNG file of noise exceeds its pixels by a few per cent, an array by its header.
        self._largest = 2 * size + 2**16
        self._largest_shard = self._per_shard * (size + 64) + 2**16
        self._indices = indices
        self._open: tuple[str, tuple[np.ndarray, np.ndarray]] = "", (np.empty(0), np.empty(0))
        self._place = {index: i for i, index in enumerate(indices)} if format == "npz" else {}

    def write(self, finished: FinishedSample) -> tuple[Path, str] | None:
        """Put a sample on the disk; the file and its sha256, or None where nothing of it is kept.

        Raises:
            OutputError: Disk full, or not writable.
        """
        path = self.path(finished.index)
        if path is None:
            return None
        if self._format == "png":
            content = png(finished.image)
        else:
            buffer = io.BytesIO()
            np.save(buffer, to_uint8(finished.image) if self._images else finished.x.numpy())
            content = buffer.getvalue()
        write_atomically(path, content)
        return path, sha256_of(content)

    def path(self, index: int) -> Path | None:
        """Where a sample is written when it is finished."""
        if self._format == "png":
            return self._folder / f"samples/{index:06d}.png"
        if self._format == "npz" or (self._images and index in self._on_grid):
            return self._folder / PARTS / f"{index:06d}.npy"
        return None

    def final(self, index: int) -> str | None:
        """The file that holds a sample in the end, as `run.json` names it."""
        if self._format == "png":
            return f"samples/{index:06d}.png"
        return self.shard_name(self.shard_of(index)) if self._format == "npz" else None

    # --- .npz files ----------------------------------------------------------------------------------------

    def shards(self) -> range:
        """The numbers of all .npz files."""
        return range(-(-len(self._indices) // self._per_shard) if self._format == "npz" else 0)

    def shard_of(self, index: int) -> int:
        """The number of the .npz file that a sample is in."""
        return self._place[index] // self._per_shard

    def members(self, shard: int) -> Sequence[int]:
        """The sample indices of one .npz file."""
        return self._indices[shard * self._per_shard : (shard + 1) * self._per_shard]

    def shard_name(self, shard: int) -> str:
        """ "samples.npz", or "samples-00007-of-00050.npz" where there are several."""
        count = len(self.shards())
        return "samples.npz" if count == 1 else f"samples-{shard:05d}-of-{count:05d}.npz"

    def write_shard(self, shard: int, records: Mapping[int, Mapping[str, Any]]) -> str | None:
        """Write one .npz file from the parts of those of its samples that are done; its sha256, or None if none is.

        It holds images (N, H, W, C) uint8, or the states (N, *shape), with index (N,) and nfe (N,), by sample index.
        """
        done = sorted(
            i for i in self.members(shard) if i in records and records[i]["status"] == "done"
        )
        if not done:
            return None
        buffer = io.BytesIO()
        np.savez(
            buffer,
            images=np.stack([self.pixels(index) for index in done]),
            index=np.array(done, np.int64),
            nfe=np.array([records[index]["nfe"] for index in done], np.int64),
        )
        content = buffer.getvalue()
        write_atomically(self._folder / self.shard_name(shard), content, durable=True)
        return sha256_of(content)

    def drop_parts(self, shard: int) -> None:
        """Remove the parts of an .npz file that is complete, as far as that goes: they are removed with their folder in the end."""
        for index in self.members(shard):
            path = self.path(index)
            if path is not None:
                with suppress(OSError):
                    path.unlink(missing_ok=True)

    # --- reading back ----------------------------------------------------------------------------------------

    def pixels(self, index: int) -> np.ndarray:
        """A sample that is on the disk: (H, W, C) uint8, or its state.

        Raises:
            OutputError: It is not what was written.
        """
        path = self.path(index)
        try:
            if path is not None and self._format == "png":
                content = io.BytesIO(read_file(path, self._largest))
                with Image.open(content, formats=("PNG",)) as image:
                    levels = np.asarray(image)
                return levels[..., None] if levels.ndim == 2 else levels
            with suppress(FileNotFoundError):
                if path is not None:
                    content = io.BytesIO(read_file(path, self._largest))
                    array: np.ndarray = np.load(content, allow_pickle=False)
                    return array
            order, images = self._shard(str(self.final(index)))
            found: np.ndarray = images[int(np.flatnonzero(order == index)[0])]
            return found
        except Exception as error:  # damage can surface as almost anything
            raise OutputError(f"cannot read sample {index} back: {error}") from error

    def _shard(self, name: str) -> tuple[np.ndarray, np.ndarray]:
        """Index and images of an .npz file; that of the last call is remembered."""
        if self._open[0] != name:
            content = io.BytesIO(read_file(self._folder / name, self._largest_shard))
            with np.load(content, allow_pickle=False) as file:
                self._open = name, (file["index"], file["images"])
        return self._open[1]

    def intact(self, index: int, expected: str | None) -> bool:
        """Whether what was written of a sample is still there."""
        path = self.path(index)
        return expected is None if path is None else _is(path, expected, self._largest)

    def intact_shard(self, name: str, expected: str) -> bool:
        """Whether an .npz file is still what was written."""
        return _is(self._folder / name, expected, self._largest_shard)


def _is(path: Path, expected: str | None, limit: int) -> bool:
    """Whether a file can be read and has this sha256."""
    try:
        return sha256(path, limit) == expected
    except OSError:
        return False
