"""The journal of a run: a growing file of finished samples, with which a killed run continues.

The worker of rank K writes `journal-K.jsonl`. Its JSON lines, see `documents`, are

- first the settings of the run: the first part of `run.json`;
- `{"session": ...}` where a process starts, or starts again;
- one line for each finished sample: its counts, the sha256 of its file, and in `spent` the network
  calls, rows and seconds of the session so far; `spent` alone ends a session in good order;
- `{"shard": ..., "sha256": ...}` for each .npz file that is complete.

A line is written after the sample's file, and passed to the operating system at once: a killed
process loses no finished sample. Files and journal are synced to the disk at most once a second,
for at most 2 % of the time. After a power failure, samples whose file does not have its recorded
hash are drawn again. When the run ends, `run.json` replaces the journals.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from time import monotonic

from msgspec import Struct

from ggf_cli.documents import as_json
from ggf_cli.errors import OutputError
from ggf_cli.files import flush, open_file, open_to_append, sync
from ggf_cli.runs.documents import RunSettings, SettingsLine
from ggf_cli.runs.history import (
    MAX_JOURNAL,
    MAX_LINE,
    is_there,
    journal_path,
    journals,
    read_settings,
)
from ggf_cli.runs.layout import PARTS, remove_tree, write_atomically, write_error
from ggf_cli.runs.resume import setting_changes

SYNC_EVERY_S = 1.0
# The largest share of the time for syncing.
SYNC_SHARE = 0.02


class Journal:
    """The journal of this process, open for appending.

    Args:
        folder: The folder of the run.
        settings: The settings of the run, the first line of a new journal.
        rank: The rank of this process.

    Raises:
        OutputError: Disk full, or not writable; so do the methods.
    """

    def __init__(self, folder: Path, settings: RunSettings, rank: int = 0) -> None:
        self._path = journal_path(folder, rank)
        try:
            if not is_there(self._path):
                write_atomically(self._path, _first_line(settings), durable=True)
            else:
                self._check(settings)
            self._file = open_to_append(self._path)
            try:
                self._length = _whole_lines(self._path)
                os.ftruncate(self._file, self._length)
            except BaseException:
                self.close()
                raise
        except OSError as error:
            raise write_error(self._path, error) from error
        self._unsynced: list[Path] = []
        self._next_sync = monotonic() + SYNC_EVERY_S

    def _check(self, settings: RunSettings) -> None:
        """Refuse to continue the journal of another run."""
        if different := setting_changes(read_settings(self._path), settings):
            raise OutputError(
                f"{self._path} is of a run with other settings: {'; '.join(different)}",
                hint="remove it, or give another folder with `out`",
            )

    def append(self, entry: Struct, written: Path | None = None) -> None:
        """Add a line.

        Args:
            entry: A line of one of the types in `documents.JOURNAL_LINES`.
            written: The file of the sample, which exists.
        """
        line = as_json(entry, indent=None)
        try:
            rest = line
            # A full disk takes a part, then raises.
            while rest:
                rest = rest[os.write(self._file, rest) :]
        except OSError as error:
            with suppress(OSError):
                os.ftruncate(self._file, self._length)
            raise write_error(self._path, error) from error
        self._length += len(line)
        if written is not None:
            self._unsynced.append(written)
        if monotonic() >= self._next_sync:
            self.sync()

    def sync(self) -> None:
        """Sync the journal and the files of its samples to the disk."""
        start = monotonic()
        try:
            for path in self._unsynced:
                # The part is in its .npz file by now.
                with suppress(FileNotFoundError):
                    flush(path)
            for folder in {path.parent for path in self._unsynced}:
                with suppress(FileNotFoundError):
                    flush(folder)
            sync(self._file)
        except OSError as error:
            raise write_error(self._path, error) from error
        self._unsynced.clear()
        end = monotonic()
        self._next_sync = end + max(SYNC_EVERY_S, (end - start) / SYNC_SHARE)

    def close(self) -> None:
        """Sync and close the journal."""
        if self._file >= 0:
            descriptor, self._file = self._file, -1
            # Lines that the run still needs were synced before.
            with suppress(OSError):
                sync(descriptor)
            with suppress(OSError):
                os.close(descriptor)


def remove_journals(folder: Path) -> None:
    """Remove all journals, that of rank 0 first, and the folder of parts.

    Raises:
        OSError: A file cannot be removed.
    """
    for path in [journal_path(folder, 0), *journals(folder)]:
        path.unlink(missing_ok=True)
    remove_tree(folder / PARTS)


def _whole_lines(path: Path) -> int:
    """The length of a file up to the end of its last whole line."""
    with open_file(path, MAX_JOURNAL) as file:
        end = file.seek(0, os.SEEK_END)
        while end:
            start = max(0, end - MAX_LINE)
            file.seek(start)
            if (found := file.read(end - start).rfind(b"\n")) >= 0:
                return start + found + 1
            end = start
    return 0


def _first_line(settings: RunSettings) -> bytes:
    line = SettingsLine(**{name: getattr(settings, name) for name in RunSettings.__struct_fields__})
    return as_json(line, first=("schema",), indent=None)
