"""A comparison as tidy data: one row a cell and repeat, one column a variable, for pandas and R."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from typing import Any

from ggf_cli.comparison.report.series import Cell, Comparison, ordered

_COSTS = (
    "lost", "utilisation", "rows_evaluated", "network_calls", "seconds", "images_per_s", "evaluations_per_s",
    "peak_memory_bytes",
)  # fmt: skip


def csv_text(comparison: Comparison) -> str:
    """Every number of a comparison but the distributions of NFE and step sizes, as CSV with a header.

    - `METRIC` is the value of that repeat; `METRIC.mean` and `METRIC.se` are those of the cell, as are all costs.
    - `option.NAME` is empty where the solver has no such option.
    - A cell of which nothing is drawn is one row without a repeat; a floor has rows of role "floor".

    Numbers are written in full; what is unknown is empty. Lines end with a line feed.
    """
    rows = [row for cell in ordered(comparison) for row in _cell(comparison, cell)]
    rows += _floors(comparison)
    common = {"model": comparison["model"]["name"], "seed": comparison["seed"], "n": comparison["n"]}  # fmt: skip
    rows = [common | row for row in rows]
    # A dict for an ordered set: options of all solvers before the numbers.
    names = list(dict.fromkeys(name for row in rows for name in row))
    options = [name for name in names if name.startswith("option.")]
    start = names.index("repeat") if "repeat" in names else len(names)
    rest = [name for name in names[start:] if name not in options]
    buffer = io.StringIO()
    known = [name for name in names[:start] if name not in options]
    writer = csv.DictWriter(buffer, [*known, *options, *rest], lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return buffer.getvalue()


def _cell(comparison: Comparison, cell: Cell) -> Iterator[dict[str, Any]]:
    names = ("id", "label", "series", "solver", "role", "matches", "status", "error")
    about = {"cell" if name == "id" else name: cell[name] for name in names}
    about |= {f"option.{name}": value for name, value in cell["options"].items()}
    numbers: dict[str, Any] = {}
    for metric in comparison["metrics"]:
        numbers |= _summary(metric["name"], cell["quality"].get(metric["name"]))
    for group, keys in {
        "nfe": ("mean", "min", "p50", "p95", "max", "total"),
        "steps": ("accepted", "rejected"),
        "published": ("nfe", "fid"),
    }.items():
        numbers |= {f"{group}.{key}": (cell[group] or {}).get(key) for key in keys}
    numbers |= {key: cell[key] for key in _COSTS}
    for repeat in range(len(cell["runs"])) or [None]:
        values = {} if repeat is None else _values(comparison, cell["quality"], repeat)
        yield {**about, "repeat": repeat, **numbers, **values, "best": cell["best"], "tied": cell["tied"]}  # fmt: skip


def _floors(comparison: Comparison) -> Iterator[dict[str, Any]]:
    floors = {m["name"]: m["floor"] for m in comparison["metrics"] if m["floor"]}
    for what in dict.fromkeys(floor["what"] for floor in floors.values()):
        same = {name: floor for name, floor in floors.items() if floor["what"] == what}
        about = {"cell": "floor", "label": what, "role": "floor", "status": "done"}
        for name, floor in same.items():
            about |= _summary(name, floor)
        for repeat in range(max(len(floor["values"]) for floor in same.values())):
            yield {**about, "repeat": repeat, **_values(comparison, same, repeat)}


def _summary(name: str, value: Any) -> dict[str, Any]:
    value = value or {"mean": None, "se": None}
    return {name: None, f"{name}.mean": value["mean"], f"{name}.se": value["se"]}


def _values(comparison: Comparison, quality: Any, repeat: int) -> dict[str, Any]:
    """{metric: its value for one repeat}"""
    found = {}
    for metric in comparison["metrics"]:
        values = quality.get(metric["name"], {"values": []})["values"]
        found[metric["name"]] = values[repeat] if repeat < len(values) else None
    return found
