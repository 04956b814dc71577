"""`ggf list-models`"""

from __future__ import annotations

from typing import Annotated, Any

import typer
from rich.table import Table

from ggf_cli.checkpoints.manifest import ModelEntry, read_manifest
from ggf_cli.cli import console


def list_models(
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """List the models that `--model` knows by name."""
    entries = list(read_manifest().values())
    if json:
        console.result_json([_document(entry) for entry in entries])
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("name", "data set", "SDE", "shape"):
        table.add_column(column, no_wrap=True)
    for column in ("parameters", "size"):
        table.add_column(column, justify="right", no_wrap=True)
    for column in ("source", "here", "licence", "what"):
        table.add_column(column)
    for entry in entries:
        size = entry.path.stat().st_size if entry.path.is_file() else None
        table.add_row(
            entry.name,
            entry.dataset,
            entry.sde.upper() if entry.sde != "subvp" else "sub-VP",
            "×".join(map(str, entry.shape)),
            f"{entry.parameters:,}" if entry.parameters else "–",
            f"{size / 1e6:.1f} MB" if size is not None else "?",
            entry.source.partition(":")[0],
            "yes" if size is not None else "no",
            entry.license,
            entry.summary,
        )
    console.show(table)


def _document(entry: ModelEntry) -> dict[str, Any]:
    here = entry.path.is_file()
    return {
        "name": entry.name,
        "summary": entry.summary,
        "dataset": entry.dataset,
        "sde": entry.sde,
        "shape": list(entry.shape),
        "parameters": entry.parameters,
        "bytes": entry.path.stat().st_size if here else None,
        "source": entry.source,
        "here": here,
        "sha256": entry.sha256,
        "license": entry.license,
        "citation": entry.citation,
    }
