"""What weights must be: their sha256 against the registry, the hub, or the first download.

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

MAX_BOOK = 2**24  # bytes of known_hashes.json; an entry has 200
PATIENCE_S = 60.0  # for other processes that record a hash


def data_folder() -> Path:
    """Where ggf keeps what it must remember: GGF_HOME, or the user's folder for application data."""
    if home := os.environ.get("GGF_HOME"):
        return Path(home).expanduser()
    import typer

    return Path(typer.get_app_dir("ggf"))


def file_sha256(path: Path) -> str:
    """The file's SHA-256, in hexadecimal.

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
    """Checking, reading and logging a checkpoint all want its hash: a gigabyte is read once for it."""
    return digest_of(path)


def check_hash(path: Path, sha256: str | None, repo: str, file: str, revision: str) -> None:
    """Compare a file from the hub with what it must be.

    Args:
        path: The file on this machine.
        sha256: What is published, if it is. Otherwise what the hub states counts, and what it was when it was
            first downloaded, which is recorded for good.
        repo: Its repository.
        file: Its path there.
        revision: The branch or commit asked for.

    Raises:
        CheckpointError: It is another file; or the record cannot be read or written.
    """
    found = file_sha256(path)
    expected = expected_sha256(path, sha256)
    if expected and found != expected:
        raise CheckpointError(
            f"sha256 of {file} of {repo} is {found}, expected {expected}",
            # The file itself: while it exists, a link to it that was deleted is made anew.
            hint=f"delete {path.resolve()} and run the same command again",
        )
    if sha256 is None:
        _check_recorded(found, repo, file, revision)


def expected_sha256(path: Path, published: str | None) -> str | None:
    """What a file's sha256 must be, if anybody said: what is published, or what the hub stated for a large file."""
    if published:
        return published.lower()
    # the name of what the link in the cache points to
    name = ""
    with suppress(OSError):  # no link
        name = path.readlink().name
    return name if re.fullmatch("[0-9a-f]{64}", name) else None


def _check_recorded(found: str, repo: str, file: str, revision: str) -> None:
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
            f"{book} is damaged", hint="delete it; the hashes of the files in use are recorded anew"
        ) from error
    if found != first:
        raise CheckpointError(
            f"sha256 of {file} of {repo} is {found}, that of the one first downloaded on {day} is {first}",
            hint=f"if the publisher changed it on purpose, remove the entry {key!r} from {book}",
        )


def _record(book: Path, key: str, sha256: str) -> dict[str, str]:
    """Record a hash unless another process was first; returns what is recorded then."""
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
    try:
        hashes: dict[str, dict[str, str]] = json.loads(read_file(book, MAX_BOOK))
    except FileNotFoundError:
        return {}
    return hashes
