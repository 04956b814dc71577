"""Read the journals of a run. `journal` writes them.

A line that is cut short, is not JSON or is of an unknown kind is ignored. A line of a known kind
with a value of the wrong type or size is left out and reported: its sample is drawn again.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from msgspec import UNSET, Struct, structs

from ggf_cli.documents import Positive, convert, decode_json, violation
from ggf_cli.errors import OutputError
from ggf_cli.files import open_file, read_file
from ggf_cli.runs.documents import (
    JOURNAL_LINES,
    JOURNAL_SCHEMA,
    RunSettings,
    SampleLine,
    SessionLine,
    ShardLine,
    SpentLine,
    WorkerSession,
)
from ggf_cli.runs.layout import ANIMATION, JOURNALS, MAX_LOG, RUN_LOG, STRIPS
from ggf_cli.runs.pictures import PICTURES

# Bytes. The line of a sample has about 250, ten million samples 2.5e9. Line 1 lists all indices.
MAX_JOURNAL, MAX_SETTINGS, MAX_LINE = 2**33, 2**29, 2**16
# The most sessions of a run, and the most lines that are reported as left out.
MANY = 100_000


class _BatchSize(Struct):
    """The key of a `run.json` that resuming needs before the settings are compared."""

    batch_size: Positive


@dataclass(kw_only=True)
class History:
    """The content of the journals of a run.

    Attributes:
        settings: The settings of the run.
        records: {index: line} of the finished samples.
        shards: {name: sha256} of the .npz files that are complete.
        sessions: The session of each process.
        left_out: Place and reason of each line that was left out, of the first `MANY`.
    """

    settings: RunSettings
    records: dict[int, SampleLine] = field(default_factory=dict)
    shards: dict[str, str] = field(default_factory=dict)
    sessions: list[WorkerSession] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)

    @property
    def launches(self) -> int:
        """The number of times that the run was started."""
        return 1 + max((session.launch for session in self.sessions), default=-1)


def read_settings(path: Path) -> RunSettings:
    """Read the first line of a journal, the settings of the run.

    Raises:
        OutputError: The journal cannot be read, or does not begin with valid settings.
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
        if is_there(path):
            return read_settings(path).batch_size
        return convert(decode_json(read_file(folder / RUN_LOG, MAX_LOG)), _BatchSize).batch_size
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
    """The files that a run that has not ended may have written, also if its journal is damaged.

    Raises:
        OutputError: A journal cannot be read.
    """
    path = folder
    try:
        for path in journals(folder):
            yield from (*PICTURES, ANIMATION)
            for _, entry in _entries(path):
                if not violation(entry, SampleLine):
                    for images in ("samples", STRIPS):
                        yield f"{images}/{entry['index']:06d}.png"
                elif not violation(entry, ShardLine):
                    yield str(entry["shard"])
    except OSError as error:
        raise OutputError(f"cannot read {path}: {error.strerror}") from error


def _take(path: Path, entries: Iterator[tuple[int, dict[str, Any]]], history: History) -> None:
    """Read one journal to its end."""
    # Lines before the first session are of none.
    session = WorkerSession(started_at="", launch=0, rank=0, device="")
    for number, entry in entries:
        kind = next((key for key in JOURNAL_LINES if key in entry), None)
        if kind is None:
            continue
        try:
            line = convert(entry, JOURNAL_LINES[kind])
        except ValueError as error:
            problem = f"{path}, line {number}: {error}"
            # The next lines are samples of this session.
            if kind == "session":
                hint = "mend the line, or start anew with `force=True`"
                raise OutputError(problem, hint=hint) from error
            if len(history.left_out) < MANY:
                history.left_out.append(problem)
            continue
        match line:
            case SessionLine():
                session = WorkerSession(**structs.asdict(line.session))
                history.sessions.append(session)
            case ShardLine():
                history.shards[line.shard] = line.sha256
            case SampleLine():
                history.records[line.index] = line
                session.samples += 1
                session.spent = session.spent if line.spent is UNSET else line.spent
            case SpentLine():
                session.spent = line.spent
        # A hostile journal must not take any amount of memory.
        count = max(len(history.records), len(history.shards))
        if count > history.settings.num_samples or len(history.sessions) > MANY:
            raise OutputError(f"{path}, line {number}: more {kind} lines than a run has")


def _settings(path: Path, entries: Iterator[tuple[int, dict[str, Any]]]) -> RunSettings:
    """The first line of a journal."""
    number, entry = next(entries, (1, {}))
    hint = "start anew with `force=True`, or give another `out`"
    if number != 1 or entry.get("schema") != JOURNAL_SCHEMA:
        raise OutputError(f"{path} is damaged or no journal of this program", hint=hint)
    try:
        return convert(entry, RunSettings)
    except ValueError as error:
        problem = f"the folder holds a run whose settings are damaged: {error}"
        raise OutputError(problem, hint=hint) from error


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
