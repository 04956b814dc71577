"""Write a run: samples as they finish, then .npz files and the picture."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import datetime
from pathlib import Path

import numpy as np
import torch
from msgspec import UNSET, structs

from ggf_cli.engine import FinishedSample, Outcome
from ggf_cli.errors import OutputError, first_line
from ggf_cli.files import sha256_of
from ggf_cli.runs.documents import (
    FileLog,
    RunSettings,
    SampleLine,
    SampleLog,
    Session,
    SessionLine,
    ShardLine,
    Spent,
    SpentLine,
    WorkerSession,
)
from ggf_cli.runs.history import History
from ggf_cli.runs.images import grid, png
from ggf_cli.runs.journal import Journal
from ggf_cli.runs.layout import write_atomically
from ggf_cli.runs.pictures import GRID, PLOT, picture_of, pictured
from ggf_cli.runs.sample_files import Format, SampleFiles
from ggf_cli.runs.strips import Strips

# Samples that may wait to be written, and bytes of them.
WAITING, WAITING_BYTES = 64, 2**28
# Samples whose step times are recorded, if the run stores them.
TRACED = 32


class RunWriter:
    """The writer of a run, or of one worker's share of it.

    Args:
        folder: The folder of the run.
        indices: All sample indices of the run, in the order of the grid.
        settings: The settings of the run.
        spent: Returns the network calls, rows and seconds of this process so far.
        history: What earlier launches have finished.
        rank: The rank of this process.
        launch: How often the run was started before.
        alone: This process draws all remaining samples; else rank 0 collects those of all workers
            at the end.

    Raises:
        OutputError: Disk full, or not writable; so do the methods.

    Attributes:
        folder: As given.
        spent: As given.
        room: The number of samples that may wait to be written.
        traced: The sample indices whose step times `add` takes.
        samples: The line of the run log of each sample, in the order in which they finished.
        levels: Noise levels of the trajectories that `add` takes; None: it takes none.
        pictured: The sample indices in the picture.
    """

    def __init__(
        self,
        folder: Path,
        indices: Sequence[int],
        settings: RunSettings,
        *,
        spent: Callable[[], Spent],
        history: History | None = None,
        rank: int = 0,
        launch: int = 0,
        alone: bool = True,
    ) -> None:
        self.folder = folder
        self._indices = indices
        self._shape = tuple(settings.model.shape)
        self._picture = picture_of(self._shape, settings.model.images is not False)
        grid_size = None if settings.grid is UNSET else (settings.grid[0], settings.grid[1])
        self._grid_size = grid_size or (0, 0)
        self.pictured = pictured(self._picture, indices, grid_size)
        self.levels = None if settings.trajectory is UNSET else settings.trajectory
        self._strips = self.levels and Strips(
            folder,
            self._shape,
            levels=self.levels,
            data_range=settings.model.sde.data_range,
            grid_size=self._grid_size,
        )
        self.spent = spent
        self.room = max(2, min(WAITING, WAITING_BYTES // (8 * int(np.prod(self._shape)))))
        self._alone = alone
        self._format: Format = "png" if settings.format is UNSET else settings.format
        extra = () if settings.arrays is UNSET else settings.arrays
        self.traced = indices[:TRACED] if "times" in extra else ()
        self._files = SampleFiles(
            folder,
            indices,
            self._shape,
            format=self._format,
            pictured=frozenset(self.pictured),
            images=self._picture == "grid",
            extra=extra,
        )
        self._records: dict[int, SampleLine] = {}
        self._shards: dict[str, str] = {}
        self._sessions: list[WorkerSession] = []
        self.samples: list[SampleLog] = []
        if history is not None:
            self._import(history)
        self._missing = [len(self._files.members(shard)) for shard in self._files.shards()]
        for index in self._records if self._missing else ():
            self._missing[self._files.shard_of(index)] -= 1
        self._journal = Journal(folder, settings, rank)
        self._session = Session(
            started_at=datetime.now().astimezone().isoformat(timespec="seconds"),
            launch=launch,
            rank=rank,
            device=settings.device,
        )
        self._journal.append(SessionLine(session=self._session))
        self._drawn = 0

    @property
    def finished(self) -> Mapping[int, SampleLine]:
        """{index: line of the journal} of the finished samples."""
        return self._records

    def add(self, finished: FinishedSample, spent: Spent, times: Sequence[float] = ()) -> None:
        """Write a sample, then its line of the journal.

        Args:
            finished: The sample.
            spent: Network calls, rows and seconds of this process when it finished.
            times: Its step times, if its index is in `traced`.
        """
        done = finished.outcome is Outcome.DONE
        written = self._files.write(finished, times) if done else None
        drawn = self._strips and done and finished.trajectory is not None
        record = SampleLine(
            index=finished.index,
            nfe=finished.nfe,
            accepted=finished.accepted,
            rejected=finished.rejected,
            status=finished.outcome.value,
            t=finished.t,
            sha256=written and written[1],
            strip=self._strips.write(finished) if self._strips and drawn else UNSET,
            spent=spent,
        )
        self._journal.append(record, written and written[0])
        self._drawn += 1
        self._record(record)
        if self._missing and self._alone:
            shard = self._files.shard_of(finished.index)
            self._missing[shard] -= 1
            if not self._missing[shard]:
                self._complete(shard)

    def end(self) -> None:
        """End the session in good order."""
        try:
            self._journal.append(SpentLine(spent=self.spent()))
            self._journal.sync()
        finally:
            self._journal.close()

    def collect(self, history: History) -> None:
        """Import what all workers have finished, from their journals."""
        self._records.clear()
        self.samples.clear()
        self._sessions.clear()
        self._import(history, trusted=True)

    def close(self, text: Mapping[str, str]) -> list[FileLog]:
        """Write the .npz files that are left, and the picture if a sample in it is done.

        Args:
            text: The text chunks of the picture.

        Returns:
            All files of the run, as `run.json` lists them.
        """
        self.samples.sort(key=lambda sample: sample.index)
        files = [
            FileLog(path=str(sample.file), sha256=str(self._records[sample.index].sha256))
            for sample in self.samples
            if sample.file and self._format == "png"
        ]
        for shard in self._files.shards():
            name = self._files.shard_name(shard)
            if sha256 := self._shards.get(name) or self._files.write_shard(shard, self._records):
                files.append(FileLog(path=name, sha256=sha256))
        done = {index for index, record in self._records.items() if record.status == "done"}
        if any(index in done for index in self.pictured):
            name = GRID if self._picture == "grid" else PLOT
            content = self._draw(done, text)
            write_atomically(self.folder / name, content, durable=True)
            files.append(FileLog(path=name, sha256=sha256_of(content)))
        return files + self._close_strips()

    def _close_strips(self) -> list[FileLog]:
        """Write the animation; the strips and the animation."""
        if not self._strips:
            return []
        drawn = {i: r.strip for i, r in self._records.items() if r.strip is not UNSET}
        files = [self._strips.file(index, strip) for index, strip in sorted(drawn.items())]
        on_grid = [index if index in drawn else None for index in self.pictured]
        return [*files, self._strips.write_animation(on_grid)] if drawn else files

    def sessions(self) -> list[WorkerSession]:
        """The sessions of all processes, this process included."""
        session = structs.asdict(self._session)
        own = WorkerSession(**session, samples=self._drawn, spent=self.spent())
        key = (own.launch, own.rank)
        return [s for s in self._sessions if (s.launch, s.rank) != key] + [own]

    def _import(self, history: History, *, trusted: bool = False) -> None:
        """Import finished samples; unless `trusted`, only if their file has its recorded hash."""
        wanted = frozenset(self._indices)
        names = {self._files.shard_name(shard) for shard in self._files.shards()}
        for name in names & history.shards.keys():
            if trusted or self._files.intact_shard(name, history.shards[name]):
                self._shards[name] = history.shards[name]
        for index, record in history.records.items():
            if index not in wanted:
                continue
            if trusted or record.status != "done" or self._intact(record):
                self._record(record)
        self._sessions = history.sessions.copy()

    def _intact(self, record: SampleLine) -> bool:
        index, strip = record.index, record.strip
        if self._strips and index in self.pictured and not self._strips.intact(index, strip):
            return False
        in_shard = self._format == "npz" and self._files.final(index) in self._shards
        return in_shard or self._files.intact(index, record.sha256)

    def _record(self, record: SampleLine) -> None:
        self._records[record.index] = record
        self.samples.append(
            SampleLog(
                index=record.index,
                nfe=record.nfe,
                accepted=record.accepted,
                rejected=record.rejected,
                status=record.status,
                file=self._files.final(record.index) if record.status == "done" else None,
            )
        )

    def _complete(self, shard: int) -> None:
        """Write an .npz file whose last sample has finished."""
        if sha256 := self._files.write_shard(shard, self._records):
            name = self._files.shard_name(shard)
            self._journal.append(ShardLine(shard=name, sha256=sha256))
            self._journal.sync()
            self._shards[name] = sha256
        self._files.drop_parts(shard)

    def _draw(self, done: Collection[int], text: Mapping[str, str]) -> bytes:
        """The picture of the run, as a PNG file; samples that are not done are left out."""
        if self._picture == "grid":
            images = [self._image(i) if i in done else None for i in self.pictured]
            return png(grid(images, *self._grid_size), text)
        # matplotlib takes half a second to import.
        from ggf_cli.runs.plots import histogram, lines, scatter

        samples = {i: self._files.pixels(i) for i in self.pictured if i in done}
        try:
            if self._picture == "lines":
                places = [index if index in done else None for index in self.pictured]
                return lines(samples, places, self._grid_size[1], text)
            plot = scatter if self._picture == "scatter" else histogram
            return plot(np.stack(list(samples.values())), text)
        # An error of matplotlib must not cost the run its log.
        except Exception as error:
            raise OutputError(f"cannot plot the samples: {first_line(error)}") from error

    def _image(self, index: int) -> torch.Tensor:
        """The image of a sample from its file, (C, H, W) float32 in [0, 1]."""
        levels = self._files.pixels(index).transpose(2, 0, 1).copy()
        return torch.from_numpy(levels).float() / 255
