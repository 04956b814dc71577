"""The folder of a comparison: one comparison's, and one process's at a time."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib.resources import files
from pathlib import Path
from typing import Any

from ggf_cli.errors import OutputError
from ggf_cli.output.comparison import COMPARISON
from ggf_cli.output.folder import lock_folder
from ggf_cli.output.schema import misfits

SCHEMA = "ggf-compare/1"
LOCK = ".lock"
MAX_SIZE = 2**24  # bytes; one of 50 cells has 0.2 MB


@contextmanager
def claimed(folder: Path) -> Iterator[None]:
    """Have a folder to oneself; a process that dies lets it go.

    Raises:
        OutputError: It cannot be written to, or another comparison does.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = lock_folder(folder, LOCK, "comparison")
        try:
            yield
        finally:
            lock.release()
    except OSError as error:
        raise OutputError(f"cannot write to {folder}: {error.strerror}") from error


def read_document(folder: Path) -> dict[str, Any] | None:
    """The comparison in a folder, if there is one.

    Raises:
        OutputError: There is a document, but not one of ours.
    """
    path = folder / COMPARISON
    try:
        if path.exists() and path.stat().st_size > MAX_SIZE:
            raise OutputError(f"{path} has more than {MAX_SIZE:,} bytes, it is no comparison")
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise OutputError(f"cannot read {path}: {error}") from error
    problem = "it is no JSON object"
    with suppress(ValueError, RecursionError):
        found = json.loads(text)
        if isinstance(found, dict):
            schema = json.loads(
                (files("ggf_cli") / "schemas/compare-1.json").read_text(encoding="utf-8")
            )
            problem = next(misfits(found, schema, "it"), "")
            if not problem and found["schema"] == SCHEMA:
                return found
    raise OutputError(
        f"{path} is damaged or no comparison: {problem}", hint="give another folder with --out"
    )
