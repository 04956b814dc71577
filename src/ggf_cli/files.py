"""Read, write, hash and lock files safely. All other modules use these functions.

Only regular files are read, up to a stated size: a pipe or a device is refused. A file is written
to a new temporary file beside it, which then replaces it, so that no pipe or link in its place is
followed. Errors are `OSError`; their `strerror` is the reason, the caller adds the context.
"""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from contextlib import suppress
from io import BufferedReader
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

if TYPE_CHECKING:
    from filelock import FileLock

# Windows lacks the first four, others the last one.
_FLAGS = ("O_CLOEXEC", "O_NOCTTY", "O_NONBLOCK", "O_NOFOLLOW", "O_BINARY")
_CLOEXEC, _NOCTTY, _NONBLOCK, _NOFOLLOW, _BINARY = (getattr(os, name, 0) for name in _FLAGS)
_READ = os.O_RDONLY | _CLOEXEC | _NOCTTY | _NONBLOCK | _BINARY
_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | _CLOEXEC | _NOFOLLOW | _BINARY
_APPEND = os.O_WRONLY | os.O_APPEND | _CLOEXEC | _NOCTTY | _NONBLOCK | _NOFOLLOW | _BINARY


class NotAFile(OSError):
    """A folder, a pipe, a socket or a device in the place of a file."""


def open_file(path: Path, limit: int | None = None) -> BufferedReader:
    """Open a regular file for reading.

    Args:
        path: The file; links are followed.
        limit: The largest size, in bytes.

    Raises:
        OSError: `FileNotFoundError`, `NotAFile`, larger than the limit (EFBIG), or not readable.
    """
    return os.fdopen(_checked(os.open(path, _READ), path, limit), "rb")


def open_to_append(path: Path) -> int:
    """Open a regular file that exists for appending; the descriptor. A link is refused.

    Raises:
        OSError: As `open_file`.
    """
    return _checked(os.open(path, _APPEND), path, None)


def read_file(path: Path, limit: int) -> bytes:
    """The content of a regular file; raises as `open_file`."""
    with open_file(path, limit) as file:
        content = file.read(os.fstat(file.fileno()).st_size + 1)
    # The file has grown meanwhile.
    if len(content) > limit:
        raise _too_large(path, len(content), limit)
    return content


def sha256(path: Path, limit: int | None = None) -> str:
    """The SHA-256 of a regular file, in hexadecimal; raises as `open_file`."""
    with open_file(path, limit) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sha256_of(content: bytes | BinaryIO) -> str:
    """The SHA-256 of bytes, or of an open file from its start, in hexadecimal."""
    if isinstance(content, bytes):
        return hashlib.sha256(content).hexdigest()
    content.seek(0)
    return hashlib.file_digest(content, "sha256").hexdigest()  # type: ignore[arg-type]


def replace_file(target: Path, content: bytes, *, durable: bool = False) -> None:
    """Write a file: it appears whole or not at all.

    Args:
        target: The file; its folder is created.
        content: All of it.
        durable: Wait until it would survive a power failure.

    Raises:
        OSError: Disk full, or not writable. Nothing is left behind.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".{target.name}.part")
    try:
        descriptor = os.open(temporary, _CREATE, 0o666)
    # A process was killed while it wrote.
    except FileExistsError:
        temporary.unlink()
        descriptor = os.open(temporary, _CREATE, 0o666)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            if durable:
                file.flush()
                sync(file.fileno())
        temporary.replace(target)
    except BaseException:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise
    if durable:
        flush(target.parent)


def flush(path: Path) -> None:
    """Wait until a file's content, or a folder's list of names, is on the disk."""
    try:
        descriptor = os.open(path, _READ)
    except PermissionError:
        # Windows opens no folders, and need not.
        if os.name == "nt" and path.is_dir():
            return
        raise
    try:
        sync(descriptor)
    finally:
        os.close(descriptor)


def sync(descriptor: int) -> None:
    """`os.fsync`, without an error on file systems that do not support it."""
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.EBADF):
            raise


def lock(path: Path, *, timeout_s: float) -> FileLock:
    """Create and lock a file. The lock of a dead process is free.

    Raises:
        TimeoutError: Another process holds the lock.
        OSError: The file cannot be created.
    """
    # Imported here: `ggf list-models` reads files and locks none.
    from filelock import FileLock, Timeout

    held = FileLock(path, timeout=timeout_s)
    try:
        held.acquire()
    except Timeout as error:
        raise TimeoutError(errno.ETIMEDOUT, "another process has it", str(path)) from error
    return held


def _checked(descriptor: int, path: Path, limit: int | None) -> int:
    """The descriptor of a regular file of at most `limit` bytes; others are closed and refused."""
    try:
        # Checked after opening: the name may be given to another file in between.
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            raise NotAFile(errno.EINVAL, "it is not a file", str(path))
        if limit is not None and found.st_size > limit:
            raise _too_large(path, found.st_size, limit)
    except BaseException:
        with suppress(OSError):
            os.close(descriptor)
        raise
    return descriptor


def _too_large(path: Path, size: int, limit: int) -> OSError:
    return OSError(errno.EFBIG, f"it has {size:,} bytes, more than {limit:,} bytes", str(path))
