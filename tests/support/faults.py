"""Faults of the file system: list the calls that touch a folder, and let one of them fail.

    with Faults(folder) as faults:            # fails nothing
        ...
    faults.calls                              # [("open", "run.json"), ("write", ".run.json.part"), ...]
    with Faults(folder, at=7, error=errno.EIO) as faults:
        ...                                   # call number 7 raises OSError(EIO)

In this process: `os`, `open` and the files that it opens are replaced. What libraries read without Python (safetensors) is not seen.
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
    """Replace the calls while the `with` block lasts.

    Args:
        folder: Calls that touch it or what is in it count.
        at: The number of the call that fails, from 0, or its (function, path); None: all succeed.
        error: Its errno.
        again: Later calls of the same function fail too.

    Attributes:
        calls: (function, path in the folder) of each call.
        hit: Whether the call came.
    """

    def __init__(self, folder, *, at=None, error=errno.EIO, again=False):
        self._folder, self._at, self._error, self._again = os.fspath(folder), at, error, again
        self.calls, self.hit = [], False
        # Python tries again for as long as a call is interrupted; no signal comes for ever.
        self._left = (3 if error == errno.EINTR else sys.maxsize) if again else 0
        self._lock, self._real, self._function = threading.Lock(), [], None

    def __enter__(self):
        for name in BY_PATH:
            self._replace(
                os, name, lambda path=".", *_, dir_fd=None, **__: self._inside(path, dir_fd)
            )
        for name in BY_DESCRIPTOR:
            self._replace(os, name, lambda descriptor, *_: self._inside(descriptor, None))
        # Closing a file unlocks it, whatever unlocking answers.
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
                # A descriptor is gone, whatever the answer.
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
        """The path in the folder; None for another place."""
        if isinstance(path, int):
            path = self._of_descriptor(path)
        else:
            path = os.fsdecode(path)
            if parent is not None:
                path = f"{self._of_descriptor(parent)}/{path}"
        path = os.path.abspath(path)  # noqa: PTH100 - links are not followed
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
        kind = (
            io.BufferedRandom
            if "+" in mode
            else io.BufferedReader
            if "r" in mode
            else io.BufferedWriter
        )
        return kind(raw) if "b" in mode else io.TextIOWrapper(kind(raw), encoding, errors, newline)


class _File(io.FileIO):
    """A file whose reads and writes count."""

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
