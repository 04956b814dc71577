"""A comparison as data: `compare.json`, schema "ggf-compare/1" (ggf_cli/schemas/compare-1.json)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import torch

from ggf_cli.comparison.analysis import Analysis
from ggf_cli.comparison.lineup import Cell
from ggf_cli.comparison.pieces import Piece
from ggf_cli.comparison.step_sizes import summary
from ggf_cli.runs.run_log import describe_device, describe_model, nfe_statistics, versions
from ggf_cli.score import ScoreModel

MEASURED = (
    "nfe", "nfe_counts", "steps", "lost", "utilisation", "rows_evaluated", "network_calls", "seconds",
    "images_per_s", "evaluations_per_s", "peak_memory_bytes", "step_sizes",
)  # fmt: skip


def about_model(model: ScoreModel, summary: str | None) -> dict[str, Any]:
    """What the document says of the model."""
    exact = model.distribution is not None
    return describe_model(model) | {"exact": exact, "summary": summary}


def about_machine(model: ScoreModel) -> dict[str, Any]:
    """Device and versions."""
    return {
        "device": describe_device(torch.device(model.device)),
        "versions": versions("torch", "numpy", "matplotlib"),
    }


def about_metric(evaluator: Any, n: int, floor: dict[str, Any] | None) -> dict[str, Any]:
    """What the document says of a metric; floor: what so many real or exact samples get."""
    return {
        "name": evaluator.name,
        "title": evaluator.title,
        "summary": evaluator.summary,
        "lower_is_better": evaluator.lower_is_better,
        "digits": evaluator.digits,
        "floor": floor,
        "notes": list(evaluator.notes(n)),
    }


def about_cell(
    cell: Cell,
    pieces: Sequence[Piece],
    quality: dict[str, dict[str, Any]],
    **more: Any,
) -> dict[str, Any]:
    """A cell with its pieces and what the metrics say of them.

    Args:
        cell: Which.
        pieces: Those drawn so far.
        quality: {metric: {"values", "mean", "se"}}.
        more: options, adaptive, label, status, error, command, published.
    """
    return {
        "id": cell.id,
        "series": cell.series,
        "solver": cell.solver,
        "given": dict(cell.given),
        "role": cell.role,
        "matches": cell.matches,
        "pieces": len(pieces),
        "quality": quality,
        "best": False,
        "tied": False,
        **more,
        **(_measured(pieces) if pieces else dict.fromkeys(MEASURED)),
    }


def _measured(pieces: Sequence[Piece]) -> dict[str, Any]:
    nfe = [int(value) for piece in pieces for value in piece.nfe]
    seconds = sum(piece.seconds for piece in pieces)
    rows = sum(piece.rows_evaluated for piece in pieces)
    done = sum(len(piece.nfe) - piece.lost for piece in pieces)
    memory = max(piece.peak_memory for piece in pieces)
    return {
        "nfe": nfe_statistics(nfe),
        "nfe_counts": {str(value): count for value, count in sorted(Counter(nfe).items())},
        "steps": {
            "accepted": sum(piece.accepted for piece in pieces),
            "rejected": sum(piece.rejected for piece in pieces),
        },
        "lost": sum(piece.lost for piece in pieces),
        "utilisation": sum(nfe) / rows if rows else 1.0,
        "rows_evaluated": rows,
        "network_calls": sum(piece.network_calls for piece in pieces),
        "seconds": seconds,
        "images_per_s": done / seconds if seconds else 0.0,
        "evaluations_per_s": rows / seconds if seconds else 0.0,
        "peak_memory_bytes": memory if memory >= 0 else None,
        "step_sizes": summary(pieces[0].step_t, pieces[0].step_h),
    }


def conclude(document: dict[str, Any]) -> dict[str, Any]:
    """The document with best, tied, findings and recommendation filled in, by its first metric."""
    if not document["metrics"]:
        return document | {"findings": [], "recommendation": None}
    analysis = Analysis(document["metrics"][0], document["cells"], document["n"])
    best, tied = analysis.best(), analysis.indistinguishable()
    cells = [c | {"best": c["id"] == best, "tied": c["id"] in tied} for c in document["cells"]]
    return document | {
        "cells": cells,
        "findings": analysis.findings(),
        "recommendation": analysis.recommendation(),
    }
