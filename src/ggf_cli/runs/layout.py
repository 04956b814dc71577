"""The names of a run's files, and how they are written: whole or not at all, errors as `OutputError`."""

from __future__ import annotations

import errno
import shutil
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from ggf_cli import files
from ggf_cli.errors import OutputError

if TYPE_CHECKING:
    from filelock import FileLock

RUN_LOG = "run.json"
RUNNING = ".running"  # locked while a run writes to the folder
JOURNALS = "journal-*.jsonl"  # there while a run has not ended; one a process
PARTS = ".parts"  # pixels that wait for their .npz file or the grid
MAX_LOG = 2**29  # bytes of a run.json; a million samples with a PNG file each take 0.29e9


def lock_folder(folder: Path, name: str, what: str) -> FileLock:
    """Have a folder to oneself until the lock is released; a process that dies lets it go.

    Args:
        folder: Which; it exists.
        name: Of the lock's file in it.
        what: What writes there, for the message: "run".

    Raises:
        OutputError: Another one has it, or it cannot be written to.
    """
    try:
        return files.lock(folder / name, timeout_s=0)
    except TimeoutError as error:
        raise OutputError(
            f"another {what} is writing to {folder}", hint="give another folder with --out"
        ) from error
    except OSError as error:
        raise OutputError(f"cannot write to {folder}: {error.strerror}") from error


def write_atomically(target: Path, content: bytes, *, durable: bool = False) -> None:
    """Write a file of a run, as `files.replace_file`.

    Raises:
        OutputError: Disk full, or not writable. Nothing is left behind.
    """
    try:
        files.replace_file(target, content, durable=durable)
    except OSError as error:
        raise write_error(target, error) from error


def write_error(target: Path, error: OSError) -> OutputError:
    """What to tell of a file that could not be written."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return OutputError(
            f"no space left while writing {target}",
            hint="what was written before is whole; free some space, or give another --out",
        )
    return OutputError(f"cannot write {target}: {error.strerror}")


def remove_tree(path: Path) -> None:
    """Remove a folder of ours; a link in its place is not followed.

    Raises:
        OSError: Something in it cannot be removed.
    """
    if path.is_symlink():
        return
    with suppress(FileNotFoundError):
        shutil.rmtree(path)
