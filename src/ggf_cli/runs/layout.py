"""File names of a run, and writing its files atomically with errors as `OutputError`."""

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
# The lock file of the folder.
RUNNING = ".running"
# One for each worker, until the run has ended.
JOURNALS = "journal-*.jsonl"
# Samples that will be part of an .npz file or the picture.
PARTS = ".parts"
# Images of trajectories.
STRIPS = "trajectories"
ANIMATION = "trajectory.webp"
# Bytes of a run.json. A million samples with a PNG file each take 0.29e9.
MAX_LOG = 2**29


def lock_folder(folder: Path, name: str, what: str) -> FileLock:
    """Lock a folder until the lock is released or the process dies.

    Args:
        folder: The folder, which exists.
        name: The name of the lock file in it.
        what: The writer, for the message: "run".

    Raises:
        OutputError: The folder is locked, or cannot be written to.
    """
    try:
        return files.lock(folder / name, timeout_s=0)
    except TimeoutError as error:
        raise OutputError(
            f"another {what} is writing to {folder}", hint="give another folder with `out`"
        ) from error
    except OSError as error:
        raise OutputError(f"cannot write to {folder}: {error.strerror}") from error


def write_atomically(target: Path, content: bytes, *, durable: bool = False) -> None:
    """Write a file of a run, as `files.replace_file`.

    Raises:
        OutputError: The disk is full or the folder not writable. No partial file is left.
    """
    try:
        files.replace_file(target, content, durable=durable)
    except OSError as error:
        raise write_error(target, error) from error


def write_error(target: Path, error: OSError) -> OutputError:
    """The error for a file that could not be written."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return OutputError(
            f"no space left while writing {target}",
            hint="files written before are complete; free some space, or give another `out`",
        )
    return OutputError(f"cannot write {target}: {error.strerror}")


def remove_tree(path: Path) -> None:
    """Remove a folder and its content; a symbolic link is not followed.

    Raises:
        OSError: A file in it cannot be removed.
    """
    if path.is_symlink():
        return
    with suppress(FileNotFoundError):
        shutil.rmtree(path)
