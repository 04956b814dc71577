"""Load the samples of a run that has ended, from its .npz files."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ggf_cli.errors import OutputError
from ggf_cli.files import read_file, sha256_of
from ggf_cli.runs.documents import FileLog
from ggf_cli.runs.npz import read_arrays

NAME = re.compile(r"samples(-\d{5}-of-\d{5})?\.npz")
MAX_BYTES = 2**33


@dataclass(frozen=True, kw_only=True)
class RunSamples:
    """The samples of a run that reached the end, by rising index.

    Attributes:
        index: Sample indices, (M,) int64.
        images: Images (M, H, W, C) uint8; states (M, *shape) if the samples are not images.
        x: States (M, *shape) float32; None if the run does not store them.
        step_times: The recorded step times of each sample, from T to the end; () if not recorded.
    """

    index: np.ndarray
    images: np.ndarray
    x: np.ndarray | None
    step_times: list[np.ndarray]


def load_samples(folder: Path, files: Sequence[FileLog]) -> RunSamples | None:
    """Load the samples of a run in format "npz". None if no sample reached the end.

    Args:
        folder: The folder of the run.
        files: The files of the run, from its `run.json`.

    Raises:
        OutputError: A file is missing or damaged, or is not the one that `run.json` lists.
    """
    shards = []
    for file in files:
        if NAME.fullmatch(file.path):
            path = folder / file.path
            try:
                shards.append(_load(path, file.sha256))
            # Damage can surface as almost any exception.
            except Exception as error:
                raise OutputError(f"cannot read {path}: {error}") from error
    if not shards:
        return None
    try:
        return _joined(shards)
    # The arrays are missing, or do not fit each other.
    except Exception as error:
        raise OutputError(f"the samples in {folder} are damaged: {error!r:.200}") from error


def _joined(shards: Sequence[Mapping[str, np.ndarray]]) -> RunSamples:
    """The samples of all files, by index."""
    x = [shard["x"] for shard in shards if "x" in shard]
    times = [part for shard in shards for part in _split(shard)]
    index = np.concatenate([shard["index"] for shard in shards])
    order = np.argsort(index)
    return RunSamples(
        index=index[order],
        images=np.concatenate([shard["images"] for shard in shards])[order],
        x=np.concatenate(x)[order] if x else None,
        step_times=[times[i] for i in order] if times else [],
    )


def _load(path: Path, sha256: str) -> dict[str, np.ndarray]:
    content = read_file(path, MAX_BYTES)
    if sha256_of(content) != sha256:
        raise ValueError("it is not the file that was written")
    return read_arrays(content)


def _split(shard: Mapping[str, np.ndarray]) -> list[np.ndarray]:
    """The step times of each sample of a file."""
    if "step_counts" not in shard:
        return []
    return np.split(shard["step_times"], np.cumsum(shard["step_counts"])[:-1])
