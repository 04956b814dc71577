"""Faults of the file system: list the calls on a folder, and let one of them fail.

    # No call fails.
    with Faults(folder) as faults:
        ...
    # [("open", "run.json"), ("write", ".run.json.part"), ...]
    faults.calls
    # Call number 7 raises OSError(EIO).
    with Faults(folder, at=7, error=errno.EIO) as faults:
        ...

In this process, functions of `os`, `open` and the files that it opens are replaced. Calls of
libraries without Python (safetensors) are not recorded.
"""

import builtins
import errno
import fcntl
import io
import os
import sys
import threading

ERRNOS = (
    "EIO",
    "EACCES",
    "ENOSPC",
    "EINTR",
    "EBUSY",
    "EROFS",
    "ENOENT",
    "EDQUOT",
    "EMFILE",
    "ESTALE",
)
BY_PATH = (
    "open",
    "stat",
    "lstat",
    "mkdir",
    "rmdir",
    "unlink",
    "remove",
    "rename",
    "replace",
    "listdir",
    "scandir",
    "access",
    "truncate",
    "readlink",
    "chmod",
    "utime",
    "link",
    "symlink",
)
BY_DESCRIPTOR = ("read", "write", "fstat", "fsync", "ftruncate", "close", "fchmod", "lseek")


class Faults:
    """Record the calls in a `with` block, and let one of them fail.

    Args:
        folder: Calls on this folder, or on a path in it, are counted.
        at: The number of the call that fails, from 0, or its (function, path); None: all succeed.
        error: The errno of the failure.
        again: Later calls of the same function fail too.

    Attributes:
        calls: (function, path in the folder) of each call.
        hit: Whether the failing call was made.
    """

    def __init__(self, folder, *, at=None, error=errno.EIO, again=False):
        self._folder, self._at, self._error, self._again = os.fspath(folder), at, error, again
        self.calls, self.hit = [], False
        # Python repeats an interrupted call until it is not interrupted, so that this must end.
        self._left = (3 if error == errno.EINTR else sys.maxsize) if again else 0
        self._lock, self._real, self._function = threading.Lock(), [], None

    def __enter__(self):
        for name in BY_PATH:
            self._replace(
                os, name, lambda path=".", *_, dir_fd=None, **__: self._inside(path, dir_fd)
            )
        for name in BY_DESCRIPTOR:
            self._replace(os, name, lambda descriptor, *_: self._inside(descriptor, None))
        # A failing unlock has no effect: closing the file unlocks it.
        self._replace(
            fcntl, "flock", lambda fd, how: None if how == fcntl.LOCK_UN else self._inside(fd, None)
        )
        self._open = io.open
        for module in (io, builtins):
            self._real.append((module, "open", module.open))
            module.open = self._open_file
        return self

    def __exit__(self, *_):
        for module, name, function in reversed(self._real):
            setattr(module, name, function)

    def meet(self, function, path):
        """Count a call; raise its error if it is the one that fails."""
        with self._lock:
            number = len(self.calls)
            self.calls.append((function, path))
            now = self._at in (number, (function, path))
            if now:
                self._function = function
            fails = now or (self._left > 0 and function == self._function)
            self._left -= fails
            self.hit |= fails
        if fails:
            raise OSError(self._error, os.strerror(self._error), f"{self._folder}/{path}")

    def _replace(self, module, name, where):
        real = getattr(module, name)

        def call(*arguments, **options):
            inside = where(*arguments, **options)
            if inside is not None:
                # `close` releases the descriptor even if it fails.
                if name == "close":
                    real(*arguments)
                try:
                    self.meet(name, inside)
                except OSError:
                    if name != "access":
                        raise
                    return False
                if name == "close":
                    return None
            return real(*arguments, **options)

        self._real.append((module, name, real))
        setattr(module, name, call)

    def _inside(self, path, parent):
        """The path relative to the folder; None for a path outside of it."""
        if isinstance(path, int):
            path = self._of_descriptor(path)
        else:
            path = os.fsdecode(path)
            if parent is not None:
                path = f"{self._of_descriptor(parent)}/{path}"
        # `Path.resolve` would follow links.
        path = os.path.abspath(path)  # noqa: PTH100
        if path == self._folder or path.startswith(self._folder + os.sep):
            return os.path.relpath(path, self._folder)
        return None

    def _of_descriptor(self, descriptor):
        real = next(f for module, name, f in self._real if name == "readlink")
        try:
            return real(f"/proc/self/fd/{descriptor}")
        except OSError:
            return "/"

    def _open_file(
        self,
        file,
        mode="r",
        buffering=-1,
        encoding=None,
        errors=None,
        newline=None,
        closefd=True,
        opener=None,
    ):
        inside = self._inside(file, None)
        if inside is None or opener is not None:
            return self._open(file, mode, buffering, encoding, errors, newline, closefd, opener)
        if not isinstance(file, int):
            self.meet("open", inside)
        raw = _File(file, mode.replace("b", "").replace("t", ""), closefd)
        raw.faults, raw.inside = self, inside
        if buffering == 0:
            return raw
        kind = io.BufferedReader if "r" in mode else io.BufferedWriter
        kind = io.BufferedRandom if "+" in mode else kind
        return kind(raw) if "b" in mode else io.TextIOWrapper(kind(raw), encoding, errors, newline)


class _File(io.FileIO):
    """A file whose reads and writes are counted."""

    def readinto(self, buffer):
        self.faults.meet("read", self.inside)
        return super().readinto(buffer)

    def readall(self):
        self.faults.meet("read", self.inside)
        return super().readall()

    def read(self, size=-1):
        self.faults.meet("read", self.inside)
        return super().read(size)

    def write(self, content):
        self.faults.meet("write", self.inside)
        return super().write(content)
