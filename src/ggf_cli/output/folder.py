"""The folder of a run: files appear whole or not at all, and failures are told in one sentence."""

from __future__ import annotations

import errno
import hashlib
import json
import os
from contextlib import suppress
from pathlib import Path

from ggf_cli.errors import OutputError

RUN_LOG = "run.json"
RUNNING = ".running"  # there while a run writes to the folder


class OutputFolder:
    """A folder that receives the files of one run.

    Args:
        path: Created if it does not exist.
        force: Accept a folder that is not empty; the files of an earlier run in it are removed.

    Raises:
        OutputError: Not empty (without `force`), not a folder, or not writable.

    Attributes:
        files: What was written so far: [{"path", "sha256"}], paths relative to the folder.
    """

    def __init__(self, path: Path, *, force: bool = False) -> None:
        self.path = path
        self.files: list[dict[str, str]] = []
        try:
            path.mkdir(parents=True, exist_ok=True)
            occupied = any(path.iterdir())
        except OSError as error:
            raise OutputError(f"cannot create the folder {path}: {error.strerror}") from error
        if not os.access(path, os.W_OK | os.X_OK):
            raise OutputError(f"the folder {path} is not writable", hint="give another with --out")
        if occupied and not force:
            raise OutputError(
                f"the folder {path} is not empty", hint="give another with --out, or use --force"
            )
        self._claim(force)
        if occupied:
            self._remove_earlier_run()

    def release(self) -> None:
        """Let other runs use the folder."""
        with suppress(OSError):
            (self.path / RUNNING).unlink(missing_ok=True)

    def _claim(self, force: bool) -> None:
        """Make this folder ours, or fail before any evaluation is spent."""
        try:
            (self.path / RUNNING).touch(exist_ok=force)
        except FileExistsError as error:
            raise OutputError(
                f"another run is writing to {self.path}", hint="give another folder with --out"
            ) from error
        except OSError as error:
            raise OutputError(f"cannot write to {self.path}: {error.strerror}") from error
        for name, usable in (("samples", Path.is_dir), (RUN_LOG, Path.is_file)):
            if (self.path / name).exists() and not usable(self.path / name):
                self.release()
                raise OutputError(f"{self.path / name} is in the way", hint="remove it")

    def write(self, name: str, content: bytes) -> None:
        """Write one file, by way of a temporary file beside it.

        Raises:
            OutputError: Disk full, or not writable. Nothing of the file is left behind.
        """
        write_atomically(self.path / name, content)
        self.files.append({"path": name, "sha256": hashlib.sha256(content).hexdigest()})

    def write_log(self, log: dict[str, object]) -> None:
        """Write `run.json`, which lists the other files and so not itself."""
        write_atomically(self.path / RUN_LOG, json.dumps(log, indent=2).encode() + b"\n")

    def _remove_earlier_run(self) -> None:
        """Remove what the run log of an earlier run lists, so that no sample of it is taken for ours."""
        log = self.path / RUN_LOG
        try:
            listed = [str(file["path"]) for file in json.loads(log.read_text())["files"]]
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            return
        root = self.path.resolve()
        for name in listed:
            with suppress(OSError, ValueError):
                file = self.path / name
                if file.resolve().is_relative_to(root):  # a log from strangers may list anything
                    file.unlink(missing_ok=True)
        with suppress(OSError):
            log.unlink()


def write_atomically(target: Path, content: bytes) -> None:
    """Write a file by way of a temporary one beside it: it appears whole or not at all.

    Raises:
        OutputError: Disk full, or not writable. Nothing is left behind.
    """
    temporary = target.with_name(f".{target.name}.part")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_bytes(content)
        temporary.replace(target)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise OutputError(
                f"no space left while writing {target}",
                hint="what was written before is whole; free some space, or give another --out",
            ) from error
        raise OutputError(f"cannot write {target}: {error.strerror}") from error
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
