"""Writes a run: samples as they finish, then the grid and `run.json`; and finds what an earlier process of it has finished."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ggf_cli.engine import FinishedSample, Outcome
from ggf_cli.files import sha256_of
from ggf_cli.runs.history import History
from ggf_cli.runs.images import grid, png
from ggf_cli.runs.journal import Journal
from ggf_cli.runs.layout import write_atomically
from ggf_cli.runs.sample_files import PixelFiles

Spent = tuple[int, int, float]

# Samples that may wait to be written, and bytes of them.
WAITING, WAITING_BYTES = 64, 2**28


class RunWriter:
    """Receives finished samples and puts them where they belong.

    Args:
        folder: Where to.
        indices: All sample indices of the run, in the order of the grid.
        frame: What the run is: the first part of its `run.json`.
        spent: Tells the network calls, rows and seconds of this process so far.
        history: What earlier processes have finished.
        rank: Which process of the run this is.
        launch: How often the run was started before.
        alone: This process draws all that is left; else rank 0 collects in the end what the others have drawn.

    Raises:
        OutputError: Disk full, or not writable; so do the methods.

    Attributes:
        folder: Where to.
        spent: As given.
        room: How many samples may wait to be written.
        samples: A line of the run log for each sample so far, in the order in which they finished.
    """

    def __init__(
        self,
        folder: Path,
        indices: Sequence[int],
        frame: Mapping[str, Any],
        *,
        spent: Callable[[], Spent],
        history: History | None = None,
        rank: int = 0,
        launch: int = 0,
        alone: bool = True,
    ) -> None:
        self.folder = folder
        self._indices = indices
        self._shape = tuple(frame["model"]["shape"])
        self._images = are_images(self._shape)
        self._grid_size = frame["grid"]
        self._on_grid = indices[: self._grid_size[0] * self._grid_size[1]]
        self.spent = spent
        self.room = max(2, min(WAITING, WAITING_BYTES // (8 * int(np.prod(self._shape)))))
        self._alone = alone
        self._format = frame["format"]
        self._pixels = PixelFiles(
            folder,
            indices,
            self._shape,
            format=self._format,
            on_grid=frozenset(self._on_grid),
            images=self._images,
        )
        self._records: dict[int, Mapping[str, Any]] = {}
        self._shards: dict[str, str] = {}
        self._sessions: list[Mapping[str, Any]] = []
        self.samples: list[dict[str, Any]] = []
        if history is not None:
            self._take(history)
        self._missing = [len(self._pixels.members(shard)) for shard in self._pixels.shards()]
        for index in self._records if self._missing else ():
            self._missing[self._pixels.shard_of(index)] -= 1
        self._journal = Journal(folder, frame, rank)
        self._session = {
            "started_at": datetime.now().astimezone().isoformat(timespec="seconds"),
            "launch": launch,
            "rank": rank,
            "device": frame["device"],
        }
        self._journal.append({"session": self._session})
        self._drawn = 0

    @property
    def finished(self) -> Mapping[int, Mapping[str, Any]]:
        """{index: line of the journal} of the samples that are finished."""
        return self._records

    def add(self, finished: FinishedSample, spent: Spent) -> None:
        """Take one sample; when this returns it is on the disk, and in the journal.

        Args:
            finished: The sample.
            spent: Network calls, rows and seconds of this process when it finished.
        """
        done = finished.outcome is Outcome.DONE
        written = self._pixels.write(finished) if done else None
        record = {
            "index": finished.index,
            "nfe": finished.nfe,
            "accepted": finished.accepted,
            "rejected": finished.rejected,
            "status": str(finished.outcome),
            "t": finished.t,
            "sha256": written and written[1],
            "spent": spent,
        }
        self._journal.append(record, written and written[0])
        self._drawn += 1
        self._note(record)
        if self._missing and self._alone:
            shard = self._pixels.shard_of(finished.index)
            self._missing[shard] -= 1
            if not self._missing[shard]:
                self._complete(shard)

    def end(self) -> None:
        """End the session in good order."""
        try:
            self._journal.append({"spent": self.spent()})
            self._journal.sync()
        finally:
            self._journal.close()

    def collect(self, history: History) -> None:
        """Take over what all processes of the run have finished, from their journals."""
        self._records.clear()
        self.samples.clear()
        self._sessions.clear()
        self._take(history, trust=True)

    def close(self, text: Mapping[str, str]) -> list[dict[str, str]]:
        """Write what waits for the end: .npz files, and the grid if there is anything to draw.

        Args:
            text: For the text chunks of the grid.

        Returns:
            What was written in all, [{"path", "sha256"}], as `run.json` lists it.
        """
        self.samples.sort(key=lambda sample: sample["index"])
        files = [
            {"path": str(sample["file"]), "sha256": str(self._records[sample["index"]]["sha256"])}
            for sample in self.samples
            if sample["file"] and self._format == "png"
        ]
        for shard in self._pixels.shards():
            name = self._pixels.shard_name(shard)
            if sha256 := self._shards.get(name) or self._pixels.write_shard(shard, self._records):
                files.append({"path": name, "sha256": sha256})
        shown = [
            self._image(index) if self._records.get(index, {}).get("status") == "done" else None
            for index in (self._on_grid if self._images else ())
        ]
        if any(image is not None for image in shown):
            content = png(grid(shown, *self._grid_size), text)
            write_atomically(self.folder / "grid.png", content, durable=True)
            files.append({"path": "grid.png", "sha256": sha256_of(content)})
        return files

    def sessions(self) -> list[Mapping[str, Any]]:
        """What each process did, this one included, as in `History`."""
        own = {**self._session, "samples": self._drawn, "spent": self.spent()}
        key = (own["launch"], own["rank"])
        return [s for s in self._sessions if (s.get("launch"), s.get("rank")) != key] + [own]

    def _take(self, history: History, *, trust: bool = False) -> None:
        """Keep what is finished; without trust, only what is still on the disk as it was written."""
        wanted = frozenset(self._indices)
        names = {self._pixels.shard_name(shard) for shard in self._pixels.shards()}
        for name in names & history.shards.keys():
            if trust or self._pixels.intact_shard(name, history.shards[name]):
                self._shards[name] = history.shards[name]
        for index, record in history.records.items():
            if index not in wanted:
                continue
            if trust or record["status"] != "done" or self._kept(index, record["sha256"]):
                self._note(record)
        self._sessions = [s for s in history.sessions if isinstance(s.get("launch"), int)]

    def _kept(self, index: int, sha256: str | None) -> bool:
        in_shard = self._format == "npz" and self._pixels.final(index) in self._shards
        return in_shard or self._pixels.intact(index, sha256)

    def _note(self, record: Mapping[str, Any]) -> None:
        index = record["index"]
        self._records[index] = record
        done = record["status"] == "done"
        account = {key: record[key] for key in ("index", "nfe", "accepted", "rejected", "status")}
        self.samples.append({**account, "file": self._pixels.final(index) if done else None})

    def _complete(self, shard: int) -> None:
        """Write an .npz file whose last sample has just finished."""
        if sha256 := self._pixels.write_shard(shard, self._records):
            name = self._pixels.shard_name(shard)
            self._journal.append({"shard": name, "sha256": sha256})
            self._journal.sync()
            self._shards[name] = sha256
        self._pixels.drop_parts(shard)

    def _image(self, index: int) -> torch.Tensor:
        """(C, H, W) float32 in [0, 1], of the levels that are on the disk."""
        levels = self._pixels.pixels(index).transpose(2, 0, 1).copy()
        return torch.from_numpy(levels).float() / 255


def are_images(shape: tuple[int, ...]) -> bool:
    """Whether samples of this shape can be drawn."""
    return len(shape) == 3 and shape[0] in (1, 3)
