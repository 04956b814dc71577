"""`ggf list-models`: list the models of the registry."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from ggf_cli.checkpoints.documents import HUB, ModelEntry
from ggf_cli.checkpoints.families import by_family, family_of, heading
from ggf_cli.checkpoints.locate import local_path
from ggf_cli.checkpoints.manifest import read_manifest
from ggf_cli.cli import console, tables
from ggf_cli.cli.tables import Column
from ggf_cli.registry import SDE_TITLES, lookup


def list_models(
    family: Annotated[
        str | None, typer.Option("--family", help="Only the models of this family.")
    ] = None,
    here: Annotated[
        bool, typer.Option("--here", help="Only models that are on this machine.")
    ] = False,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """List the models that `--model` accepts by name, grouped by family.

    ggf list-models --family ddpm

    ggf list-models --here
    """
    families = by_family(read_manifest().values())
    if family is not None:
        known = f"families: {', '.join(families)}"
        families = {family: lookup(families, family, "family", known)}
    if here:
        families = {
            name: [entry for entry in entries if local_path(entry)]
            for name, entries in families.items()
        }
    entries = [entry for group in families.values() for entry in group]
    if json:
        # In the order of the registry, as before there were families.
        chosen = {entry.name for entry in entries}
        order = [entry for name, entry in read_manifest().items() if name in chosen]
        console.result_json([_document(entry) for entry in order])
    elif entries:
        groups = [(heading(name), len(group)) for name, group in families.items() if group]
        tables.show(_columns(entries), groups=groups)
    else:
        console.note("none of these models is on this machine")


def _columns(entries: Sequence[ModelEntry]) -> list[Column]:
    paths = [local_path(entry) for entry in entries]
    sizes = [_size(entry, path) for entry, path in zip(entries, paths, strict=True)]
    what = [f"{e.summary}; {e.quality}" if e.quality else e.summary for e in entries]
    parameters = [f"{entry.parameters:,}" if entry.parameters else "–" for entry in entries]
    sources = [entry.place if entry.kind == HUB else entry.kind for entry in entries]
    sdes = [SDE_TITLES[entry.sde["name"]] for entry in entries]
    shapes = ["×".join(map(str, entry.shape)) for entry in entries]
    return [
        Column(title="name", cells=[entry.name for entry in entries]),
        Column(title="data set", cells=[entry.dataset for entry in entries], rank=1),
        Column(title="SDE", cells=sdes, rank=2),
        Column(title="shape", cells=shapes, rank=3),
        Column(title="parameters", cells=parameters, rank=6, justify="right"),
        Column(title="size", cells=sizes, rank=4, justify="right"),
        Column(title="source", cells=sources, rank=7),
        Column(title="here", cells=["yes" if path else "no" for path in paths]),
        Column(title="licence", cells=[entry.license for entry in entries], wraps=11),
        Column(title="what", cells=what, rank=5, wraps=30),
    ]


def _size(entry: ModelEntry, path: Path | None) -> str:
    """The size of the local file; without one the approximate size of 32-bit weights."""
    if path:
        return f"{path.stat().st_size / 1e6:.1f} MB"
    return f"~{4 * entry.parameters / 1e6:.0f} MB"


def _document(entry: ModelEntry) -> dict[str, Any]:
    path = local_path(entry)
    return {
        "name": entry.name,
        "family": family_of(entry),
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
