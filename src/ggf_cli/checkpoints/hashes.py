"""Verify the sha256 of weights files against the registry, the hub, or the first download.

This module does not import torch.
"""

from __future__ import annotations

import json
import os
import re
from contextlib import suppress
from datetime import date
from functools import lru_cache
from pathlib import Path

from ggf_cli.errors import CheckpointError
from ggf_cli.files import lock, read_file, replace_file
from ggf_cli.files import sha256 as digest_of

# The largest size of known_hashes.json, in bytes. An entry has 200.
MAX_BOOK = 2**24
# Seconds to wait for other processes that record a hash.
PATIENCE_S = 60.0


def data_folder() -> Path:
    """The folder of ggf's own data: GGF_HOME, or the user's folder for application data."""
    if home := os.environ.get("GGF_HOME"):
        return Path(home).expanduser()
    import typer

    return Path(typer.get_app_dir("ggf"))


def file_sha256(path: Path) -> str:
    """The SHA-256 of a file, in hexadecimal.

    Raises:
        CheckpointError: The file cannot be read.
    """
    try:
        status = path.stat()
        return _digest(path, status.st_ino, status.st_size, status.st_mtime_ns)
    except OSError as error:
        raise CheckpointError(f"cannot read {path}: {error.strerror}") from error


@lru_cache(maxsize=16)
def _digest(path: Path, *unchanged: int) -> str:
    """The SHA-256 of a file, cached until the file changes.

    A checkpoint is hashed when it is verified, read and logged: a gigabyte is read only once.
    """
    return digest_of(path)


def check_hash(path: Path, sha256: str | None, repo: str, file: str, revision: str) -> None:
    """Verify the hash of a file from the hub.

    Args:
        path: The file on this machine.
        sha256: The published hash. Without one, the file must have the hash that the hub states,
            and the hash of the first download, which is recorded permanently.
        repo: Its repository.
        file: Its path in the repository.
        revision: The requested branch or commit.

    Raises:
        CheckpointError: The hash differs, or the record cannot be read or written.
    """
    found = file_sha256(path)
    expected = expected_sha256(path, sha256)
    if expected and found != expected:
        raise CheckpointError(
            f"sha256 of {file} of {repo} is {found}, expected {expected}",
            # Not the link: if only the link is deleted, the library restores it to the same file.
            hint=f"delete {path.resolve()} and run the same command again",
        )
    if sha256 is None:
        _check_recorded(found, repo, file, revision)


def expected_sha256(path: Path, published: str | None) -> str | None:
    """The expected hash of a file: the published one, that of the hub (large files), or None."""
    if published:
        return published.lower()
    # In the hub's cache, a large file is a link to a file that is named by its hash.
    name = ""
    with suppress(OSError):
        name = path.readlink().name
    return name if re.fullmatch("[0-9a-f]{64}", name) else None


def _check_recorded(found: str, repo: str, file: str, revision: str) -> None:
    """Compare a hash with that of the first download; record it if this is the first."""
    book, key = data_folder() / "known_hashes.json", f"{repo}@{revision}/{file}"
    try:
        known = _read_hashes(book).get(key) or _record(book, key, found)
        first, day = known["sha256"], known["date"]
    except OSError as error:
        raise CheckpointError(
            f"cannot record the sha256 of {file} of {repo} in {book}: {error.strerror}",
            hint="set GGF_HOME to a folder that can be written",
        ) from error
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise CheckpointError(
            f"{book} is damaged", hint="delete it; the hashes are then recorded again"
        ) from error
    if found != first:
        raise CheckpointError(
            f"sha256 of {file} of {repo} is {found}, but {first} at the first download on {day}",
            hint=f"if the publisher changed it on purpose, remove the entry {key!r} from {book}",
        )


def _record(book: Path, key: str, sha256: str) -> dict[str, str]:
    """Record a hash, unless another process was first; returns the entry."""
    book.parent.mkdir(parents=True, exist_ok=True)
    held = lock(book.with_name(f"{book.name}.lock"), timeout_s=PATIENCE_S)
    try:
        hashes = _read_hashes(book)
        known = hashes.setdefault(key, {"sha256": sha256, "date": date.today().isoformat()})
        replace_file(book, (json.dumps(hashes, indent=2) + "\n").encode())
    finally:
        held.release()
    return known


def _read_hashes(book: Path) -> dict[str, dict[str, str]]:
    """Read the recorded hashes: {"REPO@REVISION/FILE": {"sha256", "date"}}."""
    try:
        hashes: dict[str, dict[str, str]] = json.loads(read_file(book, MAX_BOOK))
    except FileNotFoundError:
        return {}
    return hashes
