"""The folder of a comparison: one comparison's, and one process's at a time."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib.resources import files
from pathlib import Path
from typing import Any

from ggf_cli.comparison.report import COMPARISON
from ggf_cli.errors import OutputError
from ggf_cli.files import read_file
from ggf_cli.runs.layout import lock_folder
from ggf_cli.runs.schema import misfits

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
        OutputError: There is a document, but it cannot be read, or is not one of ours.
    """
    path = folder / COMPARISON
    try:
        content = read_file(path, MAX_SIZE)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise OutputError(
            f"{path} cannot be read, or is no comparison: {error.strerror}",
            hint="give another folder with --out",
        ) from error
    problem = "it is no JSON object"
    with suppress(ValueError, RecursionError):
        found = json.loads(content)
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


def holds_other_files(folder: Path) -> bool:
    """Whether there is anything in a folder that is not hidden.

    Raises:
        OutputError: It is no folder, or cannot be read.
    """
    try:
        return any(not path.name.startswith(".") for path in folder.iterdir())
    except FileNotFoundError:
        return False
    except OSError as error:
        raise OutputError(f"cannot read {folder}: {error.strerror}") from error
