"""Print the results of a comparison, for `ggf compare` and `ggf show`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ggf_cli.cli import console


def find_comparison(path: Path) -> tuple[Path, dict[str, Any]] | None:
    """Find the `compare.json` at a path or in a folder; its folder and content, None if none.

    Raises:
        OutputError: The document is damaged.
    """
    from ggf_cli.comparison.folder import read_document
    from ggf_cli.comparison.report import COMPARISON
    from ggf_cli.runs.history import is_there

    folder = path.parent if path.name == COMPARISON else path
    try:
        document = read_document(folder) if is_there(folder / COMPARISON) else None
    # The path is too long, or has a null character.
    except (OSError, ValueError):
        return None
    return None if document is None else (folder, document)


def print_comparison(comparison: Mapping[str, Any]) -> None:
    """Print table, notes, findings and recommendation.

    Args:
        comparison: The content of a `compare.json`.
    """
    from ggf_cli.comparison.report import table

    console.show(table(comparison))
    costs = comparison.get("costs", [])
    for line in [*comparison["notes"], *comparison["findings"], *costs]:
        console.result_prose(line)
    if comparison["recommendation"]:
        found = comparison["recommendation"]
        title = "Recommendation" if found["overall"] else "No recommendation"
        console.result_prose(f"{title}: {found['text']}")
