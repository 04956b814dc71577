"""Read the journals of a run. `journal` writes them.

A line that is cut short, is not JSON or is of an unknown kind is ignored. A line of a known kind
with a value of the wrong type or size is left out and reported: its sample is drawn again.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from ggf_cli.documents import decode_json, violation
from ggf_cli.errors import OutputError
from ggf_cli.files import open_file, read_file
from ggf_cli.runs.documents import JOURNAL_LINES
from ggf_cli.runs.layout import JOURNALS, MAX_LOG, RUN_LOG

SCHEMA = "ggf-journal/1"

# Bytes. The line of a sample has about 250, ten million samples 2.5e9. Line 1 lists all indices.
MAX_JOURNAL, MAX_SETTINGS, MAX_LINE = 2**33, 2**29, 2**16
# The most sessions of a run, and the most lines that are reported as left out.
MANY = 100_000


@dataclass(kw_only=True)
class History:
    """The content of the journals of a run.

    Attributes:
        settings: The settings of the run.
        records: {index: line} of the finished samples.
        shards: {name: sha256} of the .npz files that are complete.
        sessions: The session of each process: "started_at", "launch", "rank", "device", "samples"
            (the number it finished) and "spent" (network calls, rows, seconds).
        left_out: Place and reason of each line that was left out, of the first `MANY`.
    """

    settings: dict[str, Any]
    records: dict[int, dict[str, Any]] = field(default_factory=dict)
    shards: dict[str, str] = field(default_factory=dict)
    sessions: list[dict[str, Any]] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)

    @property
    def launches(self) -> int:
        """The number of times that the run was started."""
        return 1 + max((session.get("launch", 0) for session in self.sessions), default=-1)


def read_settings(path: Path) -> dict[str, Any]:
    """Read the first line of a journal, the settings of the run.

    Raises:
        OutputError: The journal cannot be read, or does not begin with settings.
    """
    try:
        return _settings(path, _entries(path))
    except OSError as error:
        raise OutputError(f"cannot read {path}: {error.strerror}") from error


def read_history(folder: Path) -> History | None:
    """Read all journals in a folder.

    None without a journal of rank 0, which is created first and removed first.

    Raises:
        OutputError: A journal cannot be read, does not begin with settings, or has a damaged
            session line.
    """
    history: History | None = None
    first = path = journal_path(folder, 0)
    try:
        for path in journals(folder) if is_there(first) else ():
            entries = _entries(path)
            settings = _settings(path, entries)
            history = history or History(settings=settings)
            _take(path, entries, history)
    except OSError as error:
        raise OutputError(f"cannot read {path}: {error.strerror}") from error
    return history


def batch_size_of(folder: Path) -> int | None:
    """The batch size of the run in a folder; None if there is no run, or it is damaged."""
    with suppress(OSError, ValueError, RecursionError, AttributeError, OutputError):
        path = journal_path(folder, 0)
        settings = (
            read_settings(path)
            if is_there(path)
            else json.loads(read_file(folder / RUN_LOG, MAX_LOG))
        )
        rows = settings.get("batch_size")
        return rows if type(rows) is int and 1 <= rows < 2**63 else None
    return None


def journal_path(folder: Path, rank: int) -> Path:
    """The journal of the worker of a rank."""
    return folder / JOURNALS.replace("*", str(rank))


def journals(folder: Path) -> list[Path]:
    """All journals in a folder, by rank."""
    found = [path for path in folder.iterdir() if fnmatch(path.name, JOURNALS)]
    return sorted(found, key=lambda path: (len(path.name), path.name))


def is_there(path: Path) -> bool:
    """Whether a path exists, also as a broken link."""
    try:
        path.lstat()
    except FileNotFoundError:
        return False
    return True


def written_by(folder: Path) -> Iterator[str]:
    """The files that a run that has not ended may have written; none if its journal is damaged.

    Raises:
        OutputError: A journal cannot be read.
    """
    try:
        history = read_history(folder)
    except OutputError as error:
        if isinstance(error.__cause__, OSError):
            raise
        return
    if history:
        yield from (f"samples/{index:06d}.png" for index in history.records)
        yield from history.shards
        yield "grid.png"


def _take(path: Path, entries: Iterator[tuple[int, dict[str, Any]]], history: History) -> None:
    """Read one journal to its end."""
    session: dict[str, Any] = {}
    most = history.settings.get("num_samples", MAX_JOURNAL)
    most = most if type(most) is int else MAX_JOURNAL
    for number, entry in entries:
        kind = next((key for key in JOURNAL_LINES if key in entry), None)
        if kind is None:
            continue
        if wrong := violation(entry, JOURNAL_LINES[kind]):
            problem = f"{path}, line {number}: {wrong}"
            # The next lines are samples of this session.
            if kind == "session":
                hint = "mend the line, or start anew with --force"
                raise OutputError(problem, hint=hint)
            if len(history.left_out) < MANY:
                history.left_out.append(problem)
            continue
        if kind == "session":
            session = {**entry["session"], "samples": 0, "spent": [0, 0, 0.0]}
            history.sessions.append(session)
        elif kind == "shard":
            history.shards[entry["shard"]] = entry["sha256"]
        elif kind == "index":
            history.records[entry["index"]] = entry
            session["samples"] = session.get("samples", 0) + 1
        # A hostile journal must not take any amount of memory.
        if max(len(history.records), len(history.shards)) > most or len(history.sessions) > MANY:
            raise OutputError(f"{path}, line {number}: more {kind} lines than a run has")
        session["spent"] = entry.get("spent", session.get("spent"))


def _settings(path: Path, entries: Iterator[tuple[int, dict[str, Any]]]) -> dict[str, Any]:
    """The first line of a journal."""
    number, entry = next(entries, (1, {}))
    if number != 1 or entry.get("schema") != SCHEMA:
        hint = "start anew with --force, or give another --out"
        raise OutputError(f"{path} is damaged or no journal of this program", hint=hint)
    return entry


def _entries(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """(number, content) of each whole line. A kill cuts the last, a power failure adds zeros."""
    with open_file(path, MAX_JOURNAL) as file:
        number = 0
        while line := file.readline(MAX_LINE if number else MAX_SETTINGS):
            number += 1
            while not line.endswith(b"\n") and (rest := file.readline(MAX_LINE)):
                # No line of a run is so long.
                line = b"\n" * rest.endswith(b"\n")
            try:
                entry = decode_json(line, finite=False) if line.endswith(b"\n") else None
            except (ValueError, RecursionError):
                continue
            if isinstance(entry, dict):
                yield number, entry
