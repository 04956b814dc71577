"""Columns and rows of the table of a comparison, as text.

The table in the terminal and the one in the HTML report are made from them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ggf_cli.comparison.analysis import is_extrapolated, limit
from ggf_cli.comparison.statements import plus_minus

# The content of compare.json, and one of its cells.
Comparison = Mapping[str, Any]
Cell = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Column:
    """A column of the table.

    Attributes:
        key: The key of the column in `Row.texts`.
        title: The header.
        numeric: Whether the texts are aligned to the right.
        optional: Whether the column may be left out of a narrow table.
    """

    key: str
    title: str
    numeric: bool = True
    optional: bool = True


@dataclass(frozen=True, kw_only=True)
class Row:
    """A row of the table: a cell, or a floor.

    Attributes:
        texts: {column key: text}; missing keys are empty.
        kind: "contender", "matched" (indented under the row before), "reference" or "floor".
        status: "done", "failed" or "pending".
        best: Whether it has the best mean of the first metric.
        recommended: Whether it is the recommended setting.
        starts_group: Whether a gap or a rule separates it from the row before.
    """

    texts: Mapping[str, str]
    kind: str
    status: str = "done"
    best: bool = False
    recommended: bool = False
    starts_group: bool = False


def columns(comparison: Comparison) -> list[Column]:
    """Return the columns that are not empty, the most important first."""
    found = [
        Column(key="label", title="solver", numeric=False, optional=False),
        Column(key="nfe", title="NFE", optional=False),
    ]
    for place, metric in enumerate(comparison["metrics"]):
        title = metric_title(metric)
        found.append(Column(key=metric["name"], title=title, optional=False))
        if is_extrapolated(metric, comparison["n"]):
            key = f"{metric['name']}.limit"
            found.append(Column(key=key, title=f"{metric['title']} n→∞", optional=False))
        if place == 0:
            found.append(Column(key="mark", title="", numeric=False, optional=False))
    if any(cell["published"] for cell in comparison["cells"]):
        found.append(Column(key="published.nfe", title="paper NFE", optional=False))
        found.append(Column(key="published.fid", title="paper FID", optional=False))
    titles = {
        "rejected": "rejected",
        "images_per_s": "images/s",
        "p95": "NFE p95",
        "max": "NFE max",
        "seconds": "seconds",
        "memory": "MB",
        "lost": "lost",
    }
    known = {key for cell in comparison["cells"] for key in _costs(cell)}
    return found + [Column(key=key, title=titles[key]) for key in titles if key in known]


def rows(comparison: Comparison) -> list[Row]:
    """Return the rows: cells in the order of `ordered`, then floors."""
    before = None
    found = []
    for cell in ordered(comparison):
        kind = cell["role"]
        found.append(
            Row(
                texts=dict(_texts(comparison, cell)),
                kind=kind,
                status=cell["status"],
                best=cell["best"],
                recommended=cell["id"] == recommended(comparison),
                starts_group=before is not None
                and kind != "matched"
                and {kind, before} != {"contender"},
            )
        )
        before = kind
    floors: dict[str, dict[str, str]] = {}
    for metric in comparison["metrics"]:
        if floor := metric["floor"]:
            texts = floors.setdefault(floor["what"], {"label": f"floor: {floor['what']}"})
            texts[metric["name"]] = plus_minus(floor, metric["digits"])
    for texts in floors.values():
        found.append(
            Row(texts=texts, kind="floor", starts_group=before not in ("floor", "reference"))
        )
        before = "floor"
    return found


def ordered(comparison: Comparison) -> Iterator[Cell]:
    """Yield the cells: matched ones after the cell whose NFE they match, references last."""
    cells = comparison["cells"]
    ids = {cell["id"] for cell in cells}
    leading = [cell for cell in cells if cell["matches"] not in ids]
    for cell in sorted(leading, key=lambda cell: cell["role"] == "reference"):
        yield cell
        yield from (other for other in cells if other["matches"] == cell["id"])


def legend(comparison: Comparison) -> Iterator[str]:
    """Yield the legend of the table, a sentence for each mark and metric."""
    repeats, n = comparison["repeats"], comparison["n"]
    cells = comparison["cells"]
    samples = f"{n:,} samples" if repeats == 1 else f"{repeats} repeats of {n:,} samples"
    if has_errors(comparison):
        yield f"± is one standard error, from {samples}."
    else:
        yield f"{samples.capitalize()}, no error bars."
    if any(is_extrapolated(metric, n) for metric in comparison["metrics"]):
        yield "n→∞: extrapolated in 1/n; exact samples have 0, and chance may give less."
    stated = [cell["statement"] for cell in cells if cell.get("statement")]
    if stated:
        yield from _statements_legend(comparison, stated)
    if recommended(comparison):
        yield "✓: recommended, the cheapest that is better, equivalent or not worse."
    for metric in comparison["metrics"]:
        better = "lower" if metric["lower_is_better"] else "higher"
        yield f"{metric['title']}: {better} is better."


def _statements_legend(
    comparison: Comparison, stated: Sequence[Mapping[str, Any]]
) -> Iterator[str]:
    """Yield the legend of the statements about cells."""
    name = stated[0]["baseline"]
    label = next((c["label"] for c in comparison["cells"] if c["id"] == name), name)
    count, margin = comparison.get("statements", len(stated)), 100 * comparison.get("margin", 0)
    yield (
        f"Every setting is compared with {label}; with 95 % confidence, all {count} statements"
        " hold together."
    )
    meanings = {
        "equivalent": f"equivalent: the difference is within the margin of {margin:g} %.",
        "not worse": f"not worse: worse by less than the margin of {margin:g} %, if at all.",
        "undecided": "undecided: none of these could be shown.",
    }
    claims = {found["claim"] for found in stated}
    yield from (text for claim, text in meanings.items() if claim in claims)


def samples_of(comparison: Comparison) -> str:
    """Format the number of samples: "2,000" or "3 × 2,000"."""
    repeats, n = comparison["repeats"], f"{comparison['n']:,}"
    return n if repeats == 1 else f"{repeats} × {n}"


def has_errors(comparison: Comparison) -> bool:
    """Check whether any value has a standard error."""
    qualities = (quality for cell in comparison["cells"] for quality in cell["quality"].values())
    return any(quality["se"] is not None for quality in qualities)


def recommended(comparison: Comparison) -> str | None:
    """Return the id of the recommended cell, if there is one."""
    found: str | None = (comparison["recommendation"] or {"overall": None})["overall"]
    return found


def failures(comparison: Comparison) -> Iterator[tuple[str, str]]:
    """Yield (label, reason) of each cell that failed."""
    for cell in ordered(comparison):
        if cell["status"] == "failed":
            yield cell["label"], cell["error"] or "unknown reason"


def metric_title(metric: Mapping[str, Any]) -> str:
    """Format the title of a metric, with an arrow in the direction of better values."""
    return f"{metric['title']} {'↓' if metric['lower_is_better'] else '↑'}"


def whole(value: float) -> str:
    """Format a count or rate with at least two significant digits: 1,234, 51, 4.0, 0.042."""
    return f"{value:,.0f}" if value >= 9.95 else f"{value:#.2g}"


def _texts(comparison: Comparison, cell: Cell) -> Iterator[tuple[str, str]]:
    """The (column key, text) pairs of a cell."""
    notes = ["reference"] if cell["role"] == "reference" else []
    notes += [cell["status"]] if cell["status"] != "done" and cell["nfe"] else []
    if 0 < len(cell["runs"]) < comparison["repeats"]:
        notes.append(f"{len(cell['runs'])} of {comparison['repeats']} repeats")
    yield "label", cell["label"] + (f" ({', '.join(notes)})" if notes else "")
    yield "nfe", f"{cell['nfe']['mean']:,.0f}" if cell["nfe"] else cell["status"]
    for metric in comparison["metrics"]:
        if metric["name"] in cell["quality"]:
            quality = cell["quality"][metric["name"]]
            yield metric["name"], plus_minus(quality, metric["digits"])
            if is_extrapolated(metric, comparison["n"]) and (found := limit(quality)):
                yield f"{metric['name']}.limit", plus_minus(found, metric["digits"])
    marks = [cell["statement"]["claim"]] if cell.get("statement") else []
    marks += ["✓"] if cell["id"] == recommended(comparison) else []
    yield "mark", " ".join(marks)
    for key, number in (cell["published"] or {}).items():
        if number is not None:
            yield f"published.{key}", f"{number:g}"
    yield from _costs(cell).items()


def _costs(cell: Cell) -> dict[str, str]:
    """{column key: text} of the known costs of a cell."""
    found = {}
    if cell["adaptive"] and cell["nfe"]:
        found["p95"] = f"{cell['nfe']['p95']:,.0f}"
        found["max"] = f"{cell['nfe']['max']:,}"
    if cell["steps"] and (rejected := cell["steps"]["rejected"]):
        found["rejected"] = f"{rejected / (cell['steps']['accepted'] + rejected):.0%}"
    for key in ("images_per_s", "seconds"):
        if cell[key] is not None:
            found[key] = whole(cell[key])
    if cell["peak_memory_bytes"] is not None:
        found["memory"] = f"{cell['peak_memory_bytes'] / 1e6:,.0f}"
    if cell["lost"]:
        found["lost"] = f"{cell['lost']:,}"
    return found


def caption_of(comparison: Comparison, cell: Cell) -> str:
    """The caption of a cell in a figure: NFE, and the first metric."""
    parts = [f"NFE {cell['nfe']['mean']:,.0f}"] if cell["nfe"] else [cell["status"]]
    for metric in comparison["metrics"][:1]:
        if quality := cell["quality"].get(metric["name"]):
            parts.append(f"{metric['title']} {plus_minus(quality, metric['digits'])}")
    return " · ".join(parts)
