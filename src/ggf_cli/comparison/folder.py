"""The folder of a comparison: its lock and its document."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ggf_cli.comparison.report import COMPARISON
from ggf_cli.errors import OutputError
from ggf_cli.files import read_file
from ggf_cli.runs.layout import lock_folder

LOCK = ".lock"
# The run of repeat r of a cell is in `cells/<cell id>/<r>`.
CELLS = "cells"
# Bytes of a compare.json; one of 50 cells has 0.2 MB.
MAX_SIZE = 2**24
# A comparison with another value of these is another comparison.
IDENTITY = ("model", "precision", "compiled", "conditions", "guidance", "seed", "n", "repeats")
CELL_IDENTITY = ("id", "solver", "given", "matches")


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """A context in which no other process writes to the folder. The lock of a dead process is free.

    Raises:
        OutputError: The folder is not writable, or another comparison is writing to it.
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
    """Read and check the `compare.json` of a folder; None if there is none.

    A document of the former schema is returned with `runs`, the files of its samples.

    Raises:
        OutputError: The document cannot be read, or is damaged.
    """
    from ggf_cli.comparison.documents import COMPARE_SCHEMA, FORMER_SCHEMA, CompareLog
    from ggf_cli.documents import decode_json, violation

    path = folder / COMPARISON
    try:
        content = read_file(path, MAX_SIZE)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise OutputError(
            f"{path} cannot be read, or is no comparison: {error.strerror}",
            hint="give another folder with `out`",
        ) from error
    problem: str | None
    try:
        found = decode_json(content, finite=False)
        if not isinstance(found, dict):
            problem = "it is no JSON object"
        elif found.get("schema") not in (COMPARE_SCHEMA, FORMER_SCHEMA):
            problem = f"its schema is not {COMPARE_SCHEMA}"
        else:
            if found["schema"] == FORMER_SCHEMA:
                _upgrade(found)
            problem = violation(found, CompareLog)
    except (ValueError, RecursionError) as error:
        problem = f"it is not JSON: {error}"
    # The entries of a former document may be anything.
    except (TypeError, AttributeError, KeyError) as error:
        problem = f"it lacks {error}"
    if problem:
        raise OutputError(
            f"{path} is damaged or no comparison: {problem}", hint="give another folder with `out`"
        )
    return dict(found)


def _upgrade(document: dict[str, Any]) -> None:
    """Give a document of the former schema the keys of the present one.

    Raises:
        TypeError, AttributeError, KeyError: The document is damaged.
    """
    for cell in document["cells"]:
        count = cell.pop("pieces", 0)
        cell.setdefault("runs", [f"samples/{cell['id']}-{r}.npz" for r in range(count)])
        cell.pop("tied", None)


def check_same_comparison(
    folder: Path, settings: Mapping[str, Any], cells: Sequence[Mapping[str, Any]]
) -> str | None:
    """Check that a folder is empty or holds the same comparison; return when that was started.

    Args:
        folder: The folder of the comparison.
        settings: The entries of its `compare.json` that do not depend on samples.
        cells: The entries of its cells.

    Raises:
        OutputError: The folder holds another comparison, one of a former version, or other files.
    """
    from ggf_cli.comparison.documents import FORMER_SCHEMA

    before = read_document(folder)
    if before is None:
        if _holds_other_files(folder):
            raise OutputError(
                f"the folder {folder} is not empty and has no comparison",
                hint="give another folder with `out`",
            )
        return None
    differs = [key for key in IDENTITY if before.get(key) != settings.get(key)]
    if [_cell_identity(cell) for cell in before["cells"]] != [_cell_identity(c) for c in cells]:
        differs.append("cells")
    if differs:
        raise OutputError(
            f"{folder} holds another comparison: it differs in {', '.join(differs)}",
            hint="give another folder with `out`",
        )
    if before["schema"] == FORMER_SCHEMA:
        raise OutputError(
            f"{folder} holds a comparison of a former version, which cannot be continued",
            hint="ggf show still shows it; give another folder with `out` to draw it again",
        )
    return str(before["started_at"])


def _cell_identity(cell: Mapping[str, Any]) -> tuple[Any, ...]:
    return tuple(cell.get(key) for key in CELL_IDENTITY)


def _holds_other_files(folder: Path) -> bool:
    """Whether a folder has a file that is not hidden.

    Raises:
        OutputError: The path is no folder, or cannot be read.
    """
    try:
        return any(not path.name.startswith(".") for path in folder.iterdir())
    except FileNotFoundError:
        return False
    except OSError as error:
        raise OutputError(f"cannot read {folder}: {error.strerror}") from error
