"""A comparison as lines and columns of text: the order of its cells, and how each number is written.

The terminal's table and the report's are dressed from the same lines.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

Cell = Mapping[str, Any]  # of compare.json, as Comparison
Comparison = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Column:
    """A column of the table.

    Attributes:
        key: Of its texts in `Line.texts`.
        title: Its header.
        numeric: Aligned to the right.
        spare: May be left out where there is little room.
    """

    key: str
    title: str
    numeric: bool = True
    spare: bool = True


@dataclass(frozen=True, kw_only=True)
class Line:
    """A line of the table: a cell, or the floor.

    Attributes:
        texts: {column key: text}; a key that lacks is an empty place.
        kind: "contender", "matched" (belongs under the line before), "reference" or "floor".
        status: "done", "failed" or "pending".
        best: Best mean of the first metric.
        chosen: Recommended overall.
        starts: Something else than the line before it.
    """

    texts: Mapping[str, str]
    kind: str
    status: str = "done"
    best: bool = False
    chosen: bool = False
    starts: bool = False


def columns(comparison: Comparison) -> list[Column]:
    """The columns that have something to say, the most important first."""
    found = [
        Column(key="label", title="solver", numeric=False, spare=False),
        Column(key="nfe", title="NFE", spare=False),
        *(Column(key=m["name"], title=metric_title(m), spare=False) for m in comparison["metrics"]),
    ]
    found[3:3] = [Column(key="mark", title="", numeric=False, spare=False)] * (len(found) > 2)
    if any(cell["published"] for cell in comparison["cells"]):
        found.append(Column(key="published.nfe", title="paper NFE", spare=False))
        found.append(Column(key="published.fid", title="paper FID", spare=False))
    titles = {
        "rejected": "rejected",
        "images_per_s": "images/s",
        "p95": "NFE p95",
        "max": "NFE max",
        "seconds": "seconds",
        "memory": "MB",
        "lost": "lost",
    }
    said = {key for cell in comparison["cells"] for key in _cost(cell)}
    return found + [Column(key=key, title=titles[key]) for key in titles if key in said]


def lines(comparison: Comparison) -> list[Line]:
    """A line a cell, fixed-step cells under the adaptive cell whose NFE they match; references and floors last."""
    chosen, before = recommended(comparison), None
    found = []
    for cell in ordered(comparison):
        kind = cell["role"]
        found.append(
            Line(
                texts=dict(_texts(comparison, cell)),
                kind=kind,
                status=cell["status"],
                best=cell["best"],
                chosen=cell["id"] == chosen,
                starts=before is not None and kind != "matched" and {kind, before} != {"contender"},
            )
        )
        before = kind
    floors: dict[str, dict[str, str]] = {}
    for metric in comparison["metrics"]:
        if floor := metric["floor"]:
            texts = floors.setdefault(floor["what"], {"label": f"floor: {floor['what']}"})
            texts[metric["name"]] = plus_minus(floor, metric["digits"])
    for texts in floors.values():
        found.append(Line(texts=texts, kind="floor", starts=before not in ("floor", "reference")))
        before = "floor"
    return found


def ordered(comparison: Comparison) -> Iterator[Cell]:
    """The cells, fixed-step ones after the adaptive one whose NFE they match; references last."""
    cells = comparison["cells"]
    ids = {cell["id"] for cell in cells}
    leading = [cell for cell in cells if cell["matches"] not in ids]
    for cell in sorted(leading, key=lambda cell: cell["role"] == "reference"):
        yield cell
        yield from (other for other in cells if other["matches"] == cell["id"])


def legend(comparison: Comparison) -> Iterator[str]:
    """What the marks and errors of the table mean, a sentence each."""
    repeats, n = comparison["repeats"], comparison["n"]
    cells = comparison["cells"]
    samples = f"{n:,} samples" if repeats == 1 else f"{repeats} repeats of {n:,} samples"
    if has_errors(comparison):
        yield f"± is the standard error of {samples}: how far chance goes."
    else:
        yield f"{samples.capitalize()}, without error bars."
    if any(cell["best"] for cell in cells):
        yield f"best: the best mean {comparison['metrics'][0]['title']}."
    if any(cell["tied"] and not cell["best"] for cell in cells):
        yield "≈: cannot be told apart from the best (95%, paired by samples)."
    if recommended(comparison):
        yield f"✓: the cheapest within {comparison['recommendation']['within']:.0%} of the best."
    for metric in comparison["metrics"]:
        better = "lower" if metric["lower_is_better"] else "higher"
        yield f"{metric['title']}: {better} is better."


def samples_of(comparison: Comparison) -> str:
    """ "2,000" or "3 × 2,000"."""
    repeats, n = comparison["repeats"], f"{comparison['n']:,}"
    return n if repeats == 1 else f"{repeats} × {n}"


def has_errors(comparison: Comparison) -> bool:
    """Whether a standard error is known of any value."""
    qualities = (quality for cell in comparison["cells"] for quality in cell["quality"].values())
    return any(quality["se"] is not None for quality in qualities)


def recommended(comparison: Comparison) -> str | None:
    """The id of the cell that is recommended overall."""
    found: str | None = (comparison["recommendation"] or {"overall": None})["overall"]
    return found


def failures(comparison: Comparison) -> Iterator[tuple[str, str]]:
    """(label, reason) of each cell that failed."""
    for cell in ordered(comparison):
        if cell["status"] == "failed":
            yield cell["label"], cell["error"] or "unknown reason"


def metric_title(metric: Mapping[str, Any]) -> str:
    """The metric's title, and the direction in which it is better."""
    return f"{metric['title']} {'↓' if metric['lower_is_better'] else '↑'}"


def plus_minus(value: Mapping[str, Any], digits: int) -> str:
    """Mean ± standard error; the mean alone for one repeat."""
    mean, se = value["mean"], value["se"]
    return f"{mean:,.{digits}f}" + ("" if se is None else f" ± {se:,.{digits}f}")


def whole(value: float) -> str:
    """A count or rate for people: 1,234, 51, 4.0, 0.042."""
    return f"{value:,.0f}" if value >= 9.95 else f"{value:#.2g}"


def _texts(comparison: Comparison, cell: Cell) -> Iterator[tuple[str, str]]:
    about = ["reference"] if cell["role"] == "reference" else []
    about += [cell["status"]] if cell["status"] != "done" and cell["nfe"] else []
    if 0 < len(cell["runs"]) < comparison["repeats"]:
        about.append(f"{len(cell['runs'])} of {comparison['repeats']} repeats")
    yield "label", cell["label"] + (f" ({', '.join(about)})" if about else "")
    yield "nfe", f"{cell['nfe']['mean']:,.0f}" if cell["nfe"] else cell["status"]
    for metric in comparison["metrics"]:
        if metric["name"] in cell["quality"]:
            yield metric["name"], plus_minus(cell["quality"][metric["name"]], metric["digits"])
    marks = ["best"] if cell["best"] else ["≈"] if cell["tied"] else []
    marks += ["✓"] if cell["id"] == recommended(comparison) else []
    yield "mark", " ".join(marks)
    for key, number in (cell["published"] or {}).items():
        if number is not None:
            yield f"published.{key}", f"{number:g}"
    yield from _cost(cell).items()


def _cost(cell: Cell) -> dict[str, str]:
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
