"""Families of registered models: models of the same origin, which `ggf list-models` groups."""

from __future__ import annotations

from collections.abc import Iterable

from ggf_cli.checkpoints.documents import EMBEDDED, HUB, WEB, ModelEntry

# The titles of the families, in the order of the list.
FAMILIES = {
    "fashion": "networks on Fashion-MNIST, part of the package",
    "exact": "mixtures of Gaussians with an exact score, part of the package",
    "ncsnpp": "NCSN++ of Song et al. 2021, on the Hugging Face hub",
    "ddpm": "DDPM of Ho et al. 2020, on the Hugging Face hub",
    "score-sde": ".pth files of Song et al. 2021, to be downloaded with a browser",
    "edm": ".pkl files of Karras et al. 2022, non-commercial, to be downloaded",
    "embedded": "other models of the package",
    "hub": "other models on the Hugging Face hub",
    "web": "other models, to be downloaded",
}


def family_of(entry: ModelEntry) -> str:
    """The family of a model: that of its block in `checkpoints.toml`, or one given by its place."""
    if entry.family:
        return entry.family
    if entry.kind == EMBEDDED:
        return "embedded" if entry.parameters else "exact"
    return {HUB: "hub", WEB: "web"}.get(entry.kind, "score-sde")


def by_family(entries: Iterable[ModelEntry]) -> dict[str, list[ModelEntry]]:
    """The models of each family: known families first, others in the order of the registry."""
    found: dict[str, list[ModelEntry]] = {}
    for entry in entries:
        found.setdefault(family_of(entry), []).append(entry)
    order = [*(name for name in FAMILIES if name in found), *found]
    return {name: found[name] for name in dict.fromkeys(order)}


def heading(family: str) -> str:
    """The heading of a family in a list."""
    return f"{family}: {FAMILIES[family]}" if family in FAMILIES else family
