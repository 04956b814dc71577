"""Assemble the content of `compare.json`. Its type is `documents.CompareLog`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import chain
from statistics import fmean
from typing import Any

import numpy as np
import torch
from msgspec import to_builtins

from ggf_cli.comparison.analysis import Analysis, summarise
from ggf_cli.comparison.cost_sentences import cost_sentences
from ggf_cli.comparison.lineup import Cell
from ggf_cli.comparison.repeat import Evaluation, Repeat
from ggf_cli.comparison.step_sizes import step_size_percentiles
from ggf_cli.metrics.evaluator import Evaluator
from ggf_cli.runs.run_log import (
    describe_device,
    guidance_settings,
    model_settings,
    nfe_statistics,
    versions,
)
from ggf_cli.score import ScoreModel

MEASURED = (
    "nfe",
    "nfe_counts",
    "steps",
    "lost",
    "utilisation",
    "rows_evaluated",
    "network_calls",
    "seconds",
    "images_per_s",
    "evaluations_per_s",
    "peak_memory_bytes",
    "step_sizes",
)


def compared_model(model: ScoreModel, summary: str | None) -> dict[str, Any]:
    """The entry of the model."""
    exact = model.distribution is not None
    described: dict[str, Any] = to_builtins(model_settings(model))
    # A comparison has the value of --config and the assumptions among its notes and commands.
    about = {key: value for key, value in described.items() if key not in ("config", "assumptions")}
    return about | {"exact": exact, "summary": summary}


def device_and_versions(model: ScoreModel) -> dict[str, Any]:
    """The entries of the device and of package versions."""
    device = torch.device(model.device)
    threads = {"threads": torch.get_num_threads()} if device.type == "cpu" else {}
    return {
        "device": describe_device(device),
        **threads,
        "versions": versions("torch", "numpy", "matplotlib"),
    }


def conditions_and_guidance(model: ScoreModel) -> dict[str, Any]:
    """The entries of a model with conditions; empty without."""
    found: dict[str, Any] = {}
    if model.conditions is not None:
        found["conditions"] = model.conditions.description
    if model.guidance is not None:
        found["guidance"] = to_builtins(guidance_settings(model.guidance))
    return found


def metric_log(evaluator: Evaluator, n: int, floor: dict[str, Any] | None) -> dict[str, Any]:
    """The entry of a metric.

    Args:
        evaluator: The evaluator of the metric.
        n: Samples of a repeat.
        floor: The metric of n real or exact samples, if there are so many.
    """
    return {
        "name": evaluator.name,
        "title": evaluator.title,
        "summary": evaluator.summary,
        "lower_is_better": evaluator.lower_is_better,
        "digits": evaluator.digits,
        "floor": floor,
        **({} if evaluator.dimensions is None else {"dimensions": evaluator.dimensions}),
        "notes": list(evaluator.notes(n)),
    }


def cell_log(
    cell: Cell,
    repeats: Sequence[Repeat],
    quality: Mapping[str, Mapping[str, Any]],
    **more: Any,
) -> dict[str, Any]:
    """The entry of a cell.

    Args:
        cell: The cell.
        repeats: The repeats that were drawn.
        quality: {metric: as `summarise` returns it}.
        more: options, adaptive, label, status, error, command, published.
    """
    return {
        "id": cell.id,
        "series": cell.series,
        "solver": cell.solver,
        "given": dict(cell.given),
        "role": cell.role,
        "matches": cell.matches,
        "runs": [repeat.run for repeat in repeats],
        "quality": quality,
        "best": False,
        "statement": None,
        **more,
        **(_measured(repeats) if repeats else dict.fromkeys(MEASURED)),
    }


def quality_log(repeats: Sequence[Evaluation]) -> dict[str, Any]:
    """The entry of a metric of a cell, from all its repeats."""
    excess = [repeat.excess for repeat in repeats if repeat.excess is not None]
    return summarise(
        [fmean(repeat.groups) for repeat in repeats],
        list(chain.from_iterable(repeat.groups for repeat in repeats)),
        excess or None,
    )


def with_analysis(document: dict[str, Any]) -> dict[str, Any]:
    """The document with statements, findings and recommendation, by its first metric."""
    document = document | {"costs": cost_sentences(document)}
    if not document["metrics"]:
        return document | {"findings": [], "recommendation": None}
    analysis = Analysis(
        document["metrics"][0], document["cells"], document["n"], document["margin"]
    )
    best = analysis.best()
    cells = [
        c | {"best": c["id"] == best, "statement": analysis.statement(c["id"])}
        for c in document["cells"]
    ]
    return document | {
        "cells": cells,
        "statements": analysis.count,
        "findings": analysis.findings(),
        "recommendation": analysis.recommendation(),
    }


def _measured(repeats: Sequence[Repeat]) -> dict[str, Any]:
    """The measured fields of a cell, over all its repeats."""
    nfe = np.concatenate([repeat.nfe for repeat in repeats]).tolist()
    seconds = sum(repeat.seconds for repeat in repeats)
    rows = sum(repeat.rows_evaluated for repeat in repeats)
    done = sum(len(repeat.nfe) - repeat.lost for repeat in repeats)
    memory = [r.peak_memory_bytes for r in repeats if r.peak_memory_bytes is not None]
    return {
        "nfe": to_builtins(nfe_statistics(nfe)),
        "nfe_counts": {str(value): count for value, count in sorted(Counter(nfe).items())},
        "steps": {
            "accepted": sum(repeat.accepted for repeat in repeats),
            "rejected": sum(repeat.rejected for repeat in repeats),
        },
        "lost": sum(repeat.lost for repeat in repeats),
        "utilisation": min(1.0, sum(nfe) / rows) if rows else 1.0,
        "rows_evaluated": rows,
        "network_calls": sum(repeat.network_calls for repeat in repeats),
        "seconds": seconds,
        "images_per_s": done / seconds if seconds else None,
        "evaluations_per_s": rows / seconds if seconds else None,
        "peak_memory_bytes": max(memory, default=None),
        "step_sizes": step_size_percentiles(repeats[0].step_times),
    }
