"""The plot of quality against cost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from ggf_cli.comparison.report.figure import (
    GREY,
    MANY,
    WIDTH,
    drawn,
    log_axis,
    look,
    new_figure,
    places,
    styled,
    to_png,
)
from ggf_cli.comparison.report.series import (
    Cell,
    Comparison,
    has_errors,
    metric_title,
    recommended,
    samples_of,
)

_RING: dict[str, Any] = {
    "marker": "o",
    "markersize": 12,
    "markerfacecolor": "none",
    "linestyle": "none",
}


@styled
def quality_vs_nfe(comparison: Comparison) -> bytes | None:
    """Each metric against mean NFE (log), one line a series, error bars of one standard error, the floor as a band.

    The first metric is the large panel, the others are small ones below.

    Returns:
        The content of a PNG file, or None where there is nothing to draw.
    """
    metrics = [m for m in comparison["metrics"] if any(m["name"] in c["quality"] for c in drawn(comparison))]  # fmt: skip
    if not metrics:
        return None
    small_rows = -(-(len(metrics) - 1) // 3)
    figure = new_figure(WIDTH, 4.2 + 2.2 * small_rows)
    layout = figure.add_gridspec(1 + small_rows, 6, height_ratios=[4, *[2.2] * small_rows])
    _quality(figure.add_subplot(layout[0, :]), comparison, metrics[0], large=True)
    for place, metric in enumerate(metrics[1:]):
        row, column = divmod(place, 3)
        across = 6 // min(3, len(metrics) - 1)
        spot = layout[1 + row, column * across : (column + 1) * across]
        _quality(figure.add_subplot(spot), comparison, metric, large=False)
    handles = _handles(comparison, metrics)
    figure.legend(handles=handles, loc="outside lower center", ncols=min(3, len(handles)), fontsize=8.5)  # fmt: skip
    return to_png(figure, comparison)


def _quality(axes: Axes, comparison: Comparison, metric: Mapping[str, Any], *, large: bool) -> None:
    """One metric against NFE."""
    name, means = metric["name"], []
    for series, place in places(comparison).items():
        cells = [c for c in drawn(comparison) if c["series"] == series and name in c["quality"]]
        if not cells:
            continue
        cells.sort(key=lambda cell: cell["nfe"]["mean"])
        nfe = [cell["nfe"]["mean"] for cell in cells]
        mean = [cell["quality"][name]["mean"] for cell in cells]
        error = [cell["quality"][name]["se"] or 0.0 for cell in cells]
        means += mean
        size: dict[str, Any] = {"markersize": 5 if large else 3, "linewidth": 1.4 if large else 1}
        axes.errorbar(nfe, mean, error if any(error) else None, capsize=2.5, **look(place), **size)
        if large and len(drawn(comparison)) <= MANY:
            _annotate(axes, cells, name, look(place)["color"])
    for cell in drawn(comparison):
        if name in cell["quality"] and cell["role"] == "reference":
            axes.axhline(cell["quality"][name]["mean"], color=GREY, linewidth=0.8, linestyle="--")
            axes.plot(cell["nfe"]["mean"], cell["quality"][name]["mean"], **_RING, markeredgecolor=GREY)  # fmt: skip
        if name in cell["quality"] and cell["id"] == recommended(comparison):
            axes.plot(cell["nfe"]["mean"], cell["quality"][name]["mean"], **_RING, markeredgecolor="black")  # fmt: skip
    if floor := metric["floor"]:
        means.append(floor["mean"])
        axes.axhspan(floor["mean"] - (floor["se"] or 0), floor["mean"] + (floor["se"] or 0), color=GREY, alpha=0.25, linewidth=0)  # fmt: skip
        axes.axhline(floor["mean"], color=GREY, linewidth=0.8)
    if min(means) > 0 and max(means) > 8 * min(means):
        log_axis(axes, "y", min(means), max(means))
    nfe = [cell["nfe"]["mean"] for cell in drawn(comparison)]
    log_axis(axes, "x", min(nfe), max(nfe))
    axes.set(xlim=(min(nfe) / 1.4, max(nfe) * 1.25), xlabel="mean NFE", ylabel=metric_title(metric))  # fmt: skip
    if large:
        samples = f"{samples_of(comparison)} samples"
        bars = " ± standard error" if has_errors(comparison) else ""
        axes.set_title(f"{comparison['model']['name']}, {samples}{bars}", fontsize=9, color=GREY)


def _annotate(axes: Axes, cells: Sequence[Cell], name: str, color: str) -> None:
    """The settings of adaptive cells, which the axes do not show: in full at the first point, then what differs."""
    cells = [cell for cell in cells if cell["adaptive"] and cell["role"] == "contender"]
    settings = [cell["label"].removeprefix(cell["series"]).split() for cell in cells]
    differ = (len(set(words)) > 1 for words in zip(*settings, strict=False))
    common = next((place for place, do in enumerate(differ) if do), 0)
    for number, (cell, words) in enumerate(zip(cells, settings, strict=True)):
        text = " ".join(words[common if number else 0 :])
        point = cell["nfe"]["mean"], cell["quality"][name]["mean"]
        axes.annotate(text, point, (5, -11), textcoords="offset points", ha="left", fontsize=8, color=color)  # fmt: skip


def _handles(comparison: Comparison, metrics: Sequence[Mapping[str, Any]]) -> list[Any]:
    """The legend: series, then what the marks mean."""
    own = {cell["series"] for cell in drawn(comparison)}
    handles: list[Any] = [
        Line2D([], [], label=series, markersize=5, **look(place))
        for series, place in places(comparison).items()
        if series in own
    ]
    for cell in drawn(comparison):
        if cell["role"] == "reference":
            handles.append(Line2D([], [], color=GREY, linestyle="--", linewidth=0.8, label=f"reference: {cell['label']}"))  # fmt: skip
        if cell["id"] == recommended(comparison):
            handles.append(Line2D([], [], **{**_RING, "markersize": 8}, markeredgecolor="black", label="recommended"))  # fmt: skip
    if any(metric["floor"] for metric in metrics):
        handles.append(Patch(color=GREY, alpha=0.4, label="floor: as many real or exact samples"))
    return handles
