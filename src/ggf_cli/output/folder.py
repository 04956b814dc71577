"""The folder of a run: one run's at a time, files appear whole or not at all, failures are told in one sentence."""

from __future__ import annotations

import errno
import json
import os
import shutil
from contextlib import suppress
from pathlib import Path

from filelock import FileLock, Timeout

from ggf_cli.errors import OutputError

RUN_LOG = "run.json"
RUNNING = ".running"  # locked while a run writes to the folder
JOURNALS = "journal-*.jsonl"  # there while a run has not ended; one a process
PARTS = ".parts"  # pixels that wait for their .npz file or the grid


class OutputFolder:
    """A folder that receives the files of one run; a process that dies lets it go.

    Args:
        path: Created if it does not exist.
        force: Accept a folder that is not empty; the files of an earlier run in it are removed.
        resume: Accept a folder that has a run, to go on with it.

    Raises:
        OutputError: Not empty (without `force` or a run to resume), in use, not a folder, or not writable.
    """

    def __init__(self, path: Path, *, force: bool = False, resume: bool = False) -> None:
        self.path = path
        try:
            path.mkdir(parents=True, exist_ok=True)
            names = {file.name for file in path.iterdir()} - {RUNNING}
        except OSError as error:
            raise OutputError(f"cannot create the folder {path}: {error.strerror}") from error
        if not os.access(path, os.W_OK | os.X_OK):
            raise OutputError(f"the folder {path} is not writable", hint="give another with --out")
        begun = RUN_LOG in names or any(path.glob(JOURNALS))
        # A run that was killed before its journal was there leaves at most hidden files.
        if resume and not begun and any(not name.startswith(".") for name in names):
            raise OutputError(
                f"the folder {path} is not empty and holds no run", hint="give another with --out"
            )
        if names and not force and not resume:
            others = "give another with --out, or use --force"
            raise OutputError(
                f"the folder {path} is not empty",
                hint=f"to go on with its run add --resume; else {others}" if begun else others,
            )
        self._lock = lock_folder(path, RUNNING, "run")
        self._check_ways()
        if names and force:
            self._remove_earlier_run()

    def release(self) -> None:
        """Let other runs use the folder."""
        with suppress(OSError):
            (self.path / RUNNING).unlink(missing_ok=True)
        with suppress(OSError):
            self._lock.release()

    def _check_ways(self) -> None:
        """Fail before any evaluation is spent."""
        for name, usable in (("samples", Path.is_dir), (RUN_LOG, Path.is_file)):
            if (self.path / name).exists() and not usable(self.path / name):
                self.release()
                raise OutputError(f"{self.path / name} is in the way", hint="remove it")

    def _remove_earlier_run(self) -> None:
        """Remove what an earlier run wrote, ended or not, so that no sample of it is taken for ours."""
        from ggf_cli.output.journal import remove_journals, written_by

        root = self.path.resolve()
        for name in [*_listed(self.path / RUN_LOG), *written_by(self.path)]:
            with suppress(OSError, ValueError):
                file = self.path / name
                if file.resolve().is_relative_to(root):  # a log from strangers may list anything
                    file.unlink(missing_ok=True)
        with suppress(OSError):
            (self.path / RUN_LOG).unlink()
        remove_journals(self.path)


def lock_folder(folder: Path, name: str, what: str) -> FileLock:
    """Have a folder to oneself until the lock is released; a process that dies lets it go.

    Args:
        folder: Which; it exists.
        name: Of the lock's file in it.
        what: What writes there, for the message: "run".

    Raises:
        OutputError: Another one has it, or it cannot be written to.
    """
    lock = FileLock(folder / name, timeout=0)
    try:
        lock.acquire()
    except Timeout as error:
        raise OutputError(
            f"another {what} is writing to {folder}", hint="give another folder with --out"
        ) from error
    except OSError as error:
        raise OutputError(f"cannot write to {folder}: {error.strerror}") from error
    return lock


def _listed(log: Path) -> list[str]:
    """The files that a run log lists."""
    try:
        return [str(file["path"]) for file in json.loads(log.read_text())["files"]]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return []


def write_atomically(target: Path, content: bytes, *, durable: bool = False) -> None:
    """Write a file by way of a temporary one beside it: it appears whole or not at all.

    Args:
        target: Which file; its folder is created.
        content: All of it.
        durable: Wait until it would survive a power failure.

    Raises:
        OutputError: Disk full, or not writable. Nothing is left behind.
    """
    temporary = target.with_name(f".{target.name}.part")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_bytes(content)
        if durable:
            flush(temporary)
        temporary.replace(target)
        if durable:
            flush(target.parent)
    except OSError as error:
        raise write_error(target, error) from error
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def write_error(target: Path, error: OSError) -> OutputError:
    """What to tell of a file that could not be written."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return OutputError(
            f"no space left while writing {target}",
            hint="what was written before is whole; free some space, or give another --out",
        )
    return OutputError(f"cannot write {target}: {error.strerror}")


def flush(path: Path) -> None:
    """Wait until a file's content, or a folder's list of names, is on the disk; where folders cannot, they need not."""
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except PermissionError:  # a folder on Windows
        return
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.EBADF):  # what this file system has no notion of
            raise
    finally:
        os.close(descriptor)


def remove_tree(path: Path) -> None:
    """Remove a folder of ours, as far as that goes; a link in its place is not followed."""
    if not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
