"""The files that hold the samples of a run: PNG files, .npz files, or the picture alone.

A finished sample is on the disk at once. A sample without a PNG file of its own is first written to
a part file under `.parts`: samples of an .npz file until all samples of that file are finished,
samples of the picture until it is drawn.
"""

from __future__ import annotations

import io
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image

from ggf_cli.engine import FinishedSample
from ggf_cli.errors import OutputError
from ggf_cli.files import read_file, sha256, sha256_of
from ggf_cli.runs.documents import SampleLine
from ggf_cli.runs.images import png, to_uint8
from ggf_cli.runs.layout import PARTS, write_atomically
from ggf_cli.runs.npz import read_arrays

Format = Literal["png", "npz", "none"]
ExtraArray = Literal["x", "times"]

# An .npz file of a long run is written from memory, when its samples are finished.
SHARD_SAMPLES = 1000
SHARD_BYTES = 2**26
# The step times of one sample: two million steps.
TIMES_BYTES = 2**24


class SampleFiles:
    """The sample files of one run.

    Args:
        folder: The folder of the run.
        indices: All sample indices, in order.
        shape: The shape of one sample.
        format: How samples are stored.
        pictured: The indices of the samples in the picture of the run.
        images: Whether samples are images; else their states are stored.
        extra: Arrays to store beside the images in format "npz".
    """

    def __init__(
        self,
        folder: Path,
        indices: Sequence[int],
        shape: tuple[int, ...],
        *,
        format: Format,
        pictured: Collection[int],
        images: bool,
        extra: Sequence[ExtraArray] = (),
    ) -> None:
        self._folder = folder
        self._format = format
        self._pictured = pictured
        self._images = images
        self._extra = tuple(name for name in ("x", "times") if name in extra)
        size = int(np.prod(shape)) * ((1 if images else 4) + (4 if "x" in extra else 0))
        times = TIMES_BYTES if "times" in extra else 0
        self._per_shard = max(1, min(SHARD_SAMPLES, SHARD_BYTES // size))
        # Upper bounds: a PNG file of noise exceeds its pixels by a few per cent, an array by its
        # header.
        self._largest = 2 * size + 2**16 + times
        self._largest_shard = self._per_shard * (size + 64 + times) + 2**16
        self._indices = indices
        self._open: tuple[str, dict[int, tuple[np.ndarray, ...]]] = "", {}
        self._place = {index: i for i, index in enumerate(indices)} if format == "npz" else {}

    def write(
        self, finished: FinishedSample, times: Sequence[float] = ()
    ) -> tuple[Path, str] | None:
        """Write a sample; return its file and the file's sha256, or None if it has no file.

        Args:
            finished: The sample.
            times: Its step times, if they were recorded and are stored.

        Raises:
            OutputError: Disk full, or not writable.
        """
        path = self.path(finished.index)
        if path is None:
            return None
        if self._format == "png":
            assert finished.image is not None
            content = png(finished.image)
        else:
            buffer = io.BytesIO()
            for array in self._arrays_of(finished, times):
                np.save(buffer, array)
            content = buffer.getvalue()
        write_atomically(path, content)
        return path, sha256_of(content)

    def path(self, index: int) -> Path | None:
        """The file that a finished sample is written to."""
        if self._format == "png":
            return self._folder / f"samples/{index:06d}.png"
        if self._format == "npz" or index in self._pictured:
            return self._folder / PARTS / f"{index:06d}.npy"
        return None

    def final(self, index: int) -> str | None:
        """The file that holds a sample when the run has ended, as `run.json` names it."""
        if self._format == "png":
            return f"samples/{index:06d}.png"
        return self.shard_name(self.shard_of(index)) if self._format == "npz" else None

    # --- .npz files -----------------------------------------------------------------------------

    def shards(self) -> range:
        """The numbers of all .npz files."""
        return range(-(-len(self._indices) // self._per_shard) if self._format == "npz" else 0)

    def shard_of(self, index: int) -> int:
        """The number of the .npz file of a sample."""
        return self._place[index] // self._per_shard

    def members(self, shard: int) -> Sequence[int]:
        """The sample indices of an .npz file."""
        return self._indices[shard * self._per_shard : (shard + 1) * self._per_shard]

    def shard_name(self, shard: int) -> str:
        """The name of an .npz file: "samples.npz", or "samples-00007-of-00050.npz"."""
        count = len(self.shards())
        return "samples.npz" if count == 1 else f"samples-{shard:05d}-of-{count:05d}.npz"

    def write_shard(self, shard: int, records: Mapping[int, SampleLine]) -> str | None:
        """Write an .npz file from the parts of its samples; return its sha256, None without any.

        The samples that are done are in it, by rising index: `images` (M, H, W, C) uint8, or states
        (M, *shape) if samples are not images; `index` and `nfe` (M,). With the extra array "x" also
        `x`, the states, (M, *shape) float32; with "times" the step times of all samples in one
        array, `step_times` (K,) float64, and the number of each, `step_counts` (M,).
        """
        done = sorted(
            i for i in self.members(shard) if i in records and records[i].status == "done"
        )
        if not done:
            return None
        columns = list(zip(*map(self._arrays, done), strict=True))
        extra = dict(zip(self._extra, columns[1:], strict=True))
        arrays = {
            "images": np.stack(columns[0]),
            "index": np.array(done, np.int64),
            "nfe": np.array([records[index].nfe for index in done], np.int64),
        }
        if "x" in extra:
            arrays["x"] = np.stack(extra["x"])
        if "times" in extra:
            arrays["step_times"] = np.concatenate(extra["times"])
            arrays["step_counts"] = np.array([len(times) for times in extra["times"]], np.int64)
        buffer = io.BytesIO()
        # mypy: keyword arguments could be `allow_pickle`.
        np.savez(buffer, **arrays)  # type: ignore[arg-type]
        content = buffer.getvalue()
        write_atomically(self._folder / self.shard_name(shard), content, durable=True)
        return sha256_of(content)

    def drop_parts(self, shard: int) -> None:
        """Remove the parts of a written .npz file. Errors are ignored: all go at the end."""
        for index in self.members(shard):
            path = self.path(index)
            if path is not None:
                with suppress(OSError):
                    path.unlink(missing_ok=True)

    # --- reading back ---------------------------------------------------------------------------

    def pixels(self, index: int) -> np.ndarray:
        """Read a sample back: (H, W, C) uint8, or its state if samples are not images.

        Raises:
            OutputError: The file is missing or damaged.
        """
        return self._arrays(index)[0]

    def intact(self, index: int, expected: str | None) -> bool:
        """Whether the file that a sample was written to still has its sha256."""
        path = self.path(index)
        return expected is None if path is None else _is(path, expected, self._largest)

    def intact_shard(self, name: str, expected: str) -> bool:
        """Whether an .npz file still has its sha256."""
        return _is(self._folder / name, expected, self._largest_shard)

    def _arrays_of(
        self, finished: FinishedSample, times: Sequence[float]
    ) -> tuple[np.ndarray, ...]:
        """The arrays of a sample: its image, and the extra arrays."""
        state = finished.x.float().numpy()
        if self._images:
            assert finished.image is not None
            image = to_uint8(finished.image)
        else:
            image = finished.x.numpy()
        extra = {"x": state, "times": np.array(times, np.float64)}
        return (image, *(extra[name] for name in self._extra))

    def _arrays(self, index: int) -> tuple[np.ndarray, ...]:
        """Read the arrays of a sample back from its file."""
        path = self.path(index)
        try:
            if path is not None and self._format == "png":
                content = io.BytesIO(read_file(path, self._largest))
                with Image.open(content, formats=("PNG",)) as image:
                    levels = np.asarray(image)
                return (levels[..., None] if levels.ndim == 2 else levels,)
            with suppress(FileNotFoundError):
                if path is not None:
                    content = io.BytesIO(read_file(path, self._largest))
                    return tuple(
                        np.load(content, allow_pickle=False) for _ in range(1 + len(self._extra))
                    )
            return self._shard(str(self.final(index)))[index]
        # Damage can surface as almost any exception.
        except Exception as error:
            raise OutputError(f"cannot read sample {index} back: {error}") from error

    def _shard(self, name: str) -> dict[int, tuple[np.ndarray, ...]]:
        """The arrays of all samples of an .npz file, by index. The last file read is cached."""
        if self._open[0] != name:
            arrays = read_arrays(read_file(self._folder / name, self._largest_shard))
            columns: list[Sequence[np.ndarray] | np.ndarray] = [arrays["images"]]
            if "x" in self._extra:
                columns.append(arrays["x"])
            if "times" in self._extra:
                ends = np.cumsum(arrays["step_counts"])[:-1]
                columns.append(np.split(arrays["step_times"], ends))
            rows = zip(*columns, strict=True)
            self._open = name, dict(zip(arrays["index"].tolist(), rows, strict=True))
        return self._open[1]


def _is(path: Path, expected: str | None, limit: int) -> bool:
    """Whether a file can be read and has this sha256."""
    try:
        return sha256(path, limit) == expected
    except OSError:
        return False
