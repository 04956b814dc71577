"""The cost of the settings of a comparison, in words: seconds and images/s beside NFE."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ggf_cli.comparison.durations import as_duration
from ggf_cli.text import per_second

# Names of precisions in a sentence.
PRECISIONS = {"fp32": "float32", "tf32": "TF32", "bf16": "bfloat16", "fp16": "float16"}


def cost_sentences(document: Mapping[str, Any]) -> list[str]:
    """What the settings cost, and where that was measured; empty if nothing was drawn.

    Args:
        document: The content of a `compare.json`.
    """
    drawn = [cell for cell in document["cells"] if cell["nfe"] and cell["seconds"] is not None]
    if not drawn:
        return []
    where = [PRECISIONS.get(document["precision"], document["precision"])]
    where += ["compiled"] if document["compiled"] else []
    where += [f"batch size {document['batch_size']}", f"on {document['device']}"]
    found = [f"Time of {samples_of(document)} ({', '.join(where)}): {_listed(drawn)}."]
    if time := document.get("time"):
        found.append(
            f"The comparison took {as_duration(time['taken_s'])}; planned were"
            f" {as_duration(time['planned_s'])}, of it {as_duration(time['measuring_s'])} to"
            " measure speed and NFE."
        )
    return found


def samples_of(document: Mapping[str, Any]) -> str:
    """The number of samples of a cell in words."""
    n, repeats = document["n"], document["repeats"]
    return f"{n:,} samples" if repeats == 1 else f"{repeats} × {n:,} samples"


def _listed(cells: list[Mapping[str, Any]]) -> str:
    return "; ".join(
        f"{cell['label']} {as_duration(cell['seconds'])} at {cell['nfe']['mean']:,.0f} NFE"
        f" ({_rate(cell)})"
        for cell in cells
    )


def _rate(cell: Mapping[str, Any]) -> str:
    """Samples per second of a cell, or why that is not known."""
    if cell["images_per_s"] is None:
        return "images/s unknown: too fast for the clock"
    return f"{per_second(cell['images_per_s'])} images/s"
