"""`ggf list-models`: list the models of the registry."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from ggf_cli.checkpoints.documents import HUB, ModelEntry
from ggf_cli.checkpoints.locate import local_path
from ggf_cli.checkpoints.manifest import read_manifest
from ggf_cli.cli import console
from ggf_cli.registry import SDE_TITLES


def list_models(
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """List the models that `--model` accepts by name."""
    entries = list(read_manifest().values())
    if json:
        console.result_json([_document(entry) for entry in entries])
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column(
        "name", no_wrap=True, min_width=max((len(entry.name) for entry in entries), default=4)
    )
    for column in ("data set", "SDE", "shape"):
        table.add_column(column, no_wrap=True)
    for column in ("parameters", "size"):
        table.add_column(column, justify="right", no_wrap=True)
    for column in ("source", "here", "licence", "what"):
        table.add_column(column)
    for entry in entries:
        path = local_path(entry)
        cells = (
            entry.name,
            entry.dataset,
            SDE_TITLES[entry.sde["name"]],
            "×".join(map(str, entry.shape)),
            f"{entry.parameters:,}" if entry.parameters else "–",
            _size(entry, path),
            entry.place if entry.kind == HUB else entry.kind,
            "yes" if path else "no",
            entry.license,
            f"{entry.summary}; {entry.quality}" if entry.quality else entry.summary,
        )
        # As plain text: "MIT [modified]" is not markup.
        table.add_row(*map(Text, cells))
    console.show(table)


def _size(entry: ModelEntry, path: Path | None) -> str:
    """The size of the local file; without one the approximate size of 32-bit weights."""
    if path:
        return f"{path.stat().st_size / 1e6:.1f} MB"
    return f"~{4 * entry.parameters / 1e6:.0f} MB"


def _document(entry: ModelEntry) -> dict[str, Any]:
    path = local_path(entry)
    return {
        "name": entry.name,
        "summary": entry.summary,
        "dataset": entry.dataset,
        "sde": entry.sde,
        "shape": list(entry.shape),
        "parameters": entry.parameters,
        "bytes": path.stat().st_size if path else None,
        "source": entry.source,
        "revision": entry.revision or None,
        "file": entry.file or None,
        "path": str(path) if path else None,
        "here": path is not None,
        "sha256": entry.sha256 or None,
        "snr": entry.snr or None,
        "quality": entry.quality or None,
        "measured_by": entry.measured_by or None,
        "license": entry.license,
        "citation": entry.citation,
    }
