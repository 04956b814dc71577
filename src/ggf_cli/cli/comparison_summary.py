"""What `ggf compare` found, in the terminal: at its end, and again by `ggf show`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ggf_cli.cli import console
from ggf_cli.text import plain


def find_comparison(path: Path) -> tuple[Path, dict[str, Any]] | None:
    """The folder and content of a comparison: of the `compare.json` at a path or in the folder there, if there is one.

    Raises:
        OutputError: It is damaged.
    """
    from ggf_cli.comparison.folder import read_document
    from ggf_cli.comparison.report import COMPARISON
    from ggf_cli.runs.history import is_there

    folder = path.parent if path.name == COMPARISON else path
    try:
        document = read_document(folder) if is_there(folder / COMPARISON) else None
    except (OSError, ValueError):  # no name of a file: too long, a null character
        return None
    return None if document is None else (folder, document)


def tell_comparison(comparison: Mapping[str, Any]) -> None:
    """Table, notes, findings and recommendation.

    Args:
        comparison: The content of a `compare.json`.
    """
    from ggf_cli.comparison.report import table

    console.show(table(comparison))
    for line in [*comparison["notes"], *comparison["findings"]]:
        console.result(plain(line, lines=True))
    if comparison["recommendation"]:
        text = f"Recommendation: {comparison['recommendation']['text']}"
        console.result(plain(text, lines=True))
