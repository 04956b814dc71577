"""CSV export of a comparison, for pandas and R: one row for each cell and repeat."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping
from typing import Any

from ggf_cli.comparison.analysis import limit
from ggf_cli.comparison.report.rows import Cell, Comparison, ordered
from ggf_cli.solvers.catalog import as_text

_COSTS = (
    "lost",
    "utilisation",
    "rows_evaluated",
    "network_calls",
    "seconds",
    "images_per_s",
    "evaluations_per_s",
    "peak_memory_bytes",
)


def csv_text(comparison: Comparison) -> str:
    """Export all numbers of a comparison, except the distributions of NFE and step sizes.

    - `METRIC` is the value of the repeat; `METRIC.mean`, `METRIC.se` (standard error) and the costs
      are of the cell. `METRIC.limit` is the extrapolation to n -> infinity.
    - `statement.CLAIM` and the others are about the cell and the baseline.
    - `option.NAME` is empty if the solver has no such option.
    - A cell without samples has one row without a repeat. Rows of role "floor" have the floors.

    Numbers have full precision; unknown ones are empty. Lines end with a line feed.
    """
    rows = [row for cell in ordered(comparison) for row in _cell(comparison, cell)]
    rows += _floors(comparison)
    common = {
        "model": comparison["model"]["name"],
        "seed": comparison["seed"],
        "n": comparison["n"],
    }
    rows = [common | row for row in rows]
    # Unique names in order; the options of all solvers come before the numbers.
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
    """The rows of a cell."""
    names = ("id", "label", "series", "solver", "role", "matches", "status", "error")
    about = {"cell" if name == "id" else name: cell[name] for name in names}
    about |= {
        f"option.{name}": as_text(value) if isinstance(value, list) else value
        for name, value in cell["options"].items()
    }
    numbers: dict[str, Any] = {}
    for metric in comparison["metrics"]:
        numbers |= _summary(metric["name"], cell["quality"].get(metric["name"]))
        if metric.get("dimensions"):
            found = limit(cell["quality"].get(metric["name"], {}))
            numbers[f"{metric['name']}.limit"] = found["mean"] if found else None
    for group, keys in {
        "nfe": ("mean", "min", "p50", "p95", "max", "total"),
        "steps": ("accepted", "rejected"),
        "published": ("nfe", "fid"),
    }.items():
        numbers |= {f"{group}.{key}": (cell[group] or {}).get(key) for key in keys}
    numbers |= {key: cell[key] for key in _COSTS}
    for repeat in range(len(cell["runs"])) or [None]:
        values = {} if repeat is None else _values(comparison, cell["quality"], repeat)
        marks = {"best": cell["best"]} | _statement(cell)
        yield {**about, "repeat": repeat, **numbers, **values, **marks}


def _statement(cell: Cell) -> dict[str, Any]:
    """The statement about a cell."""
    keys = ("baseline", "claim", "difference", "half", "margin", "samples")
    found = cell.get("statement") or {}
    return {f"statement.{key}": found.get(key) for key in keys}


def _floors(comparison: Comparison) -> Iterator[dict[str, Any]]:
    """The rows of the floors; metrics with the same reference samples share rows."""
    floors = {m["name"]: m["floor"] for m in comparison["metrics"] if m["floor"]}
    for what in dict.fromkeys(floor["what"] for floor in floors.values()):
        same = {name: floor for name, floor in floors.items() if floor["what"] == what}
        about = {"cell": "floor", "label": what, "role": "floor", "status": "done"}
        for name, floor in same.items():
            about |= _summary(name, floor)
        for repeat in range(max(len(floor["values"]) for floor in same.values())):
            yield {**about, "repeat": repeat, **_values(comparison, same, repeat)}


def _summary(name: str, value: Mapping[str, Any] | None) -> dict[str, Any]:
    value = value or {"mean": None, "se": None}
    return {name: None, f"{name}.mean": value["mean"], f"{name}.se": value["se"]}


def _values(
    comparison: Comparison, quality: Mapping[str, Any], repeat: int
) -> dict[str, float | None]:
    """{metric: value of one repeat}."""
    found = {}
    for metric in comparison["metrics"]:
        values = quality.get(metric["name"], {"values": []})["values"]
        found[metric["name"]] = values[repeat] if repeat < len(values) else None
    return found
