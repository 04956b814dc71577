"""The folder of a comparison: one comparison's, and one process's at a time."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from ggf_cli.errors import OutputError
from ggf_cli.output.comparison import COMPARISON

SCHEMA = "ggf-compare/1"
LOCK = ".lock"


@contextmanager
def claimed(folder: Path) -> Iterator[None]:
    """Have a folder to oneself; a process that dies lets it go.

    Raises:
        OutputError: It cannot be written to, or another comparison does.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / LOCK, timeout=0):
            yield
    except Timeout as error:
        raise OutputError(
            f"another comparison is writing to {folder}", hint="give another folder with --out"
        ) from error
    except OSError as error:
        raise OutputError(f"cannot write to {folder}: {error.strerror}") from error


def read_document(folder: Path) -> dict[str, Any] | None:
    """The comparison in a folder, if there is one.

    Raises:
        OutputError: There is a document, but not one of ours.
    """
    path = folder / COMPARISON
    try:
        text = path.read_text()
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise OutputError(f"cannot read {path}: {error}") from error
    try:
        found = json.loads(text)
        if found["schema"] == SCHEMA and isinstance(found["cells"], list):
            return dict(found)
    except (ValueError, KeyError, TypeError, RecursionError):
        pass
    raise OutputError(f"{path} is damaged or no comparison", hint="give another folder with --out")
