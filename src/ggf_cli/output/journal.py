"""The journal of a run: what is finished, in files that only ever grow, so that a killed run can go on.

`journal-0.jsonl` belongs to the one process of a run, `journal-K.jsonl` to the process of rank K where there are several.
Each is a file of JSON lines:

- the first says what the run is: the part of `run.json` that is known at the start;
- `{"session": ...}` where a process starts, or starts again;
- one line a finished sample: its account, the sha256 of what was written of it, and in `spent` the network calls, rows and
  seconds of the session so far; such a line by itself ends a session in good order;
- `{"shard": ..., "sha256": ...}` for each .npz file that is complete.

A line is written when the sample's file is there, and handed to the operating system at once: a killed process loses nothing that
it had finished. Now and then files and journal are forced to the disk, as often as that costs at most 2 % of the time and at most once
a second; after a power failure, samples since then whose file is not what its line says are drawn again. A last line that was
cut short is dropped. When the run ends, `run.json` says it all and the journals are removed.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic
from typing import Any

from ggf_cli.errors import OutputError
from ggf_cli.output.folder import (
    JOURNALS,
    PARTS,
    RUN_LOG,
    flush,
    remove_tree,
    write_atomically,
    write_error,
)

SCHEMA = "ggf-journal/1"
SYNC_EVERY_S = 1.0
SYNC_SHARE = 0.02  # of the time

_COUNTS = ("index", "nfe", "accepted", "rejected")
_STATUSES = ("done", "non_finite", "max_nfe")


class Journal:
    """The journal of this process, open for appending.

    Args:
        folder: Of the run.
        frame: What the run is; the first line of a journal that does not exist yet.
        rank: Which process of the run this is.

    Raises:
        OutputError: Disk full, or not writable; so do the methods.
    """

    def __init__(self, folder: Path, frame: Mapping[str, Any], rank: int = 0) -> None:
        self._path = journal_path(folder, rank)
        if not self._path.exists():
            write_atomically(self._path, _line({"schema": SCHEMA, **frame}), durable=True)
        try:
            whole = self._path.read_bytes().rfind(b"\n") + 1
            os.truncate(self._path, whole)
            self._file = os.open(self._path, os.O_WRONLY | os.O_APPEND | getattr(os, "O_BINARY", 0))
        except OSError as error:
            raise write_error(self._path, error) from error
        self._length = whole
        self._unsynced: list[Path] = []
        self._next_sync = monotonic() + SYNC_EVERY_S

    def append(self, entry: Mapping[str, Any], written: Path | None = None) -> None:
        """Add a line.

        Args:
            entry: JSON data.
            written: The file that it is about, there already.
        """
        line = _line(entry)
        try:
            rest = line
            while rest:  # a full disk takes a part, then says so
                rest = rest[os.write(self._file, rest) :]
        except OSError as error:
            with suppress(OSError):
                os.truncate(self._path, self._length)
            raise write_error(self._path, error) from error
        self._length += len(line)
        if written is not None:
            self._unsynced.append(written)
        if monotonic() >= self._next_sync:
            self.sync()

    def sync(self) -> None:
        """Force everything so far to the disk."""
        start = monotonic()
        try:
            for path in self._unsynced:
                with suppress(FileNotFoundError):  # in its .npz file by now
                    flush(path)
            for folder in {path.parent for path in self._unsynced}:
                with suppress(FileNotFoundError):
                    flush(folder)
            os.fsync(self._file)
        except OSError as error:
            raise write_error(self._path, error) from error
        self._unsynced.clear()
        end = monotonic()
        self._next_sync = end + max(SYNC_EVERY_S, (end - start) / SYNC_SHARE)

    def close(self) -> None:
        """Force everything to the disk and let go of the file."""
        if self._file >= 0:
            descriptor, self._file = self._file, -1
            with suppress(OSError):
                os.fsync(descriptor)
            os.close(descriptor)


@dataclass(kw_only=True)
class History:
    """What the journals of a run say.

    Attributes:
        frame: What the run is.
        records: {index: line} of the finished samples.
        shards: {name: sha256} of the .npz files that are complete.
        sessions: Of each process that worked on it: "started_at", "launch", "rank", "device", "versions", "samples" (how many it
            finished) and "spent" (network calls, rows, seconds).
    """

    frame: dict[str, Any]
    records: dict[int, dict[str, Any]] = field(default_factory=dict)
    shards: dict[str, str] = field(default_factory=dict)
    sessions: list[dict[str, Any]] = field(default_factory=list)

    @property
    def launches(self) -> int:
        """How often the run was started."""
        return 1 + max((session.get("launch", 0) for session in self.sessions), default=-1)


def read_history(folder: Path) -> History | None:
    """What the journals of a folder say; None without a journal of rank 0, which is there first and removed first.

    Raises:
        OutputError: A journal cannot be read, or does not say which run it is about.
    """
    if not journal_path(folder, 0).exists():
        return None
    history: History | None = None
    for path in sorted(folder.glob(JOURNALS), key=lambda p: (len(p.name), p.name)):
        try:
            entries = _entries(path)
            frame = next(entries, {})
            if frame.get("schema") != SCHEMA:
                hint = "start anew with --force, or give another --out"
                raise OutputError(f"{path} is damaged or no journal of this program", hint=hint)
            history = history or History(frame=frame)
            _take(entries, history)
        except OSError as error:
            raise OutputError(f"cannot read {path}: {error.strerror}") from error
    return history


def batch_size_of(folder: Path) -> int | None:
    """Rows per network call of the run in a folder; None if there is none, or no telling."""
    for path in (journal_path(folder, 0), folder / RUN_LOG):
        with suppress(OSError, ValueError, RecursionError, AttributeError), path.open("rb") as file:
            frame = json.loads(file.read() if path.name == RUN_LOG else file.readline())
            rows = frame.get("batch_size")
            return rows if isinstance(rows, int) and rows >= 1 else None
    return None


def journal_path(folder: Path, rank: int) -> Path:
    """The journal of one process."""
    return folder / JOURNALS.replace("*", str(rank))


def remove_journals(folder: Path) -> None:
    """Remove all journals, that of rank 0 first, and what the run kept for itself."""
    for path in [journal_path(folder, 0), *folder.glob(JOURNALS)]:
        with suppress(OSError):
            path.unlink(missing_ok=True)
    remove_tree(folder / PARTS)


def written_by(folder: Path) -> Iterator[str]:
    """The files that an unended run may have written."""
    with suppress(OutputError):
        if history := read_history(folder):
            yield from (f"samples/{index:06d}.png" for index in history.records)
            yield from history.shards
            yield "grid.png"


def _take(entries: Iterator[dict[str, Any]], history: History) -> None:
    """Read one journal to its end."""
    session: dict[str, Any] = {}
    for entry in entries:
        if isinstance(entry.get("session"), dict):
            session = {**entry["session"], "samples": 0, "spent": [0, 0, 0.0]}
            history.sessions.append(session)
        elif isinstance(entry.get("shard"), str):
            history.shards[entry["shard"]] = str(entry.get("sha256"))
        elif _is_record(entry):
            history.records[entry["index"]] = entry
            session["samples"] = session.get("samples", 0) + 1
        if isinstance(entry.get("spent"), list) and len(entry["spent"]) == 3:
            session["spent"] = entry["spent"]


def _entries(path: Path) -> Iterator[dict[str, Any]]:
    """The lines that are whole: the last may be cut short, and a power failure may leave zeros."""
    with path.open("rb") as lines:
        for line in lines:
            try:
                entry = json.loads(line) if line.endswith(b"\n") else None
            except (ValueError, RecursionError):
                continue
            if isinstance(entry, dict):
                yield entry


def _is_record(entry: Mapping[str, Any]) -> bool:
    return (
        all(type(entry.get(key)) is int and entry[key] >= 0 for key in _COUNTS)
        and entry.get("status") in _STATUSES
        and isinstance(entry.get("sha256"), str | None)
    )


def _line(entry: Mapping[str, Any]) -> bytes:
    return json.dumps(entry, separators=(",", ":")).encode() + b"\n"
