"""The output folder of a run: create it, lock it, remove an earlier run from it."""

from __future__ import annotations

import errno
import json
import os
from contextlib import suppress
from fnmatch import fnmatch
from pathlib import Path

from ggf_cli import files
from ggf_cli.errors import OutputError
from ggf_cli.runs.history import written_by
from ggf_cli.runs.journal import remove_journals
from ggf_cli.runs.layout import JOURNALS, MAX_LOG, PARTS, RUN_LOG, RUNNING, STRIPS, lock_folder


class OutputFolder:
    """The folder of one run, locked until `release` or the death of the process.

    Args:
        path: The folder, created if it does not exist.
        force: Accept a folder that is not empty; the files of an earlier run in it are removed.
        resume: Accept a folder with a run, to continue it.

    Raises:
        OutputError: The folder is not empty (without `force` or a run to resume), in use, not a
            folder or not writable, or an earlier run in it cannot be removed.
    """

    def __init__(self, path: Path, *, force: bool = False, resume: bool = False) -> None:
        self.path = path
        try:
            path.mkdir(parents=True, exist_ok=True)
            names = {file.name for file in path.iterdir()} - {RUNNING}
            writable = os.access(path, os.W_OK | os.X_OK)
        except OSError as error:
            raise OutputError(f"cannot create the folder {path}: {error.strerror}") from error
        if not writable:
            raise OutputError(f"the folder {path} is not writable", hint="give another with `out`")
        begun = RUN_LOG in names or any(fnmatch(name, JOURNALS) for name in names)
        # A run that was killed before its journal was there leaves at most hidden files.
        if resume and not begun and any(not name.startswith(".") for name in names):
            raise OutputError(
                f"the folder {path} is not empty and holds no run", hint="give another with `out`"
            )
        if names and not force and not resume:
            others = "give another with `out`, or use `force=True`"
            raise OutputError(
                f"the folder {path} is not empty",
                hint=f"to continue its run add `resume=True`; else {others}" if begun else others,
            )
        self._lock = lock_folder(path, RUNNING, "run")
        try:
            self._check_names()
            if names and force:
                self._remove_earlier_run()
        except OSError as error:
            self.release()
            where = error.filename or path
            raise OutputError(f"cannot prepare {where}: {error.strerror}") from error
        except BaseException:
            self.release()
            raise

    def release(self) -> None:
        """Unlock the folder."""
        with suppress(OSError):
            (self.path / RUNNING).unlink(missing_ok=True)
        with suppress(OSError):
            self._lock.release()

    def _check_names(self) -> None:
        """Check that the names of the run's files are free, before any evaluation is spent."""
        for name, usable in (
            ("samples", Path.is_dir),
            (PARTS, Path.is_dir),
            (STRIPS, Path.is_dir),
            (RUN_LOG, Path.is_file),
        ):
            there = self.path / name
            if (there.is_symlink() or there.exists()) and not usable(there):
                raise OutputError(f"{there} is in the way", hint="remove it")

    def _remove_earlier_run(self) -> None:
        """Remove the files of an earlier run, so that its samples are not mistaken for new ones."""
        root = self.path.resolve()
        for name in [*_listed(self.path / RUN_LOG), *written_by(self.path)]:
            file = self.path / name
            if _is_inside(file, root):
                file.unlink(missing_ok=True)
        (self.path / RUN_LOG).unlink(missing_ok=True)
        remove_journals(self.path)


def _is_inside(file: Path, root: Path) -> bool:
    """Whether a file exists and is in the folder; an untrusted log may list any path."""
    try:
        is_file = file.is_symlink() or file.is_file()
        return is_file and file.parent.resolve().is_relative_to(root)
    # A null character; a link to itself.
    except (ValueError, RuntimeError):
        return False
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            return False
        raise


def _listed(log: Path) -> list[str]:
    """The files that a run log lists; none if it does not exist or is damaged."""
    try:
        return [str(file["path"]) for file in json.loads(files.read_file(log, MAX_LOG))["files"]]
    except (FileNotFoundError, ValueError, KeyError, TypeError, RecursionError):
        return []
    except OSError as error:
        if error.errno == errno.EFBIG:
            return []
        raise
