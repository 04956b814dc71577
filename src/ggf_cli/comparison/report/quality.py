"""The plot of quality against NFE."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from ggf_cli.comparison.report.figure import (
    MANY,
    done_cells,
    log_axis,
    series_numbers,
    style_of,
    to_png,
)
from ggf_cli.comparison.report.rows import (
    Cell,
    Comparison,
    has_errors,
    metric_title,
    recommended,
    samples_of,
)
from ggf_cli.runs.figures import GREY, WIDTH, figure_style, new_figure

_RING: dict[str, Any] = {
    "marker": "o",
    "markersize": 12,
    "markerfacecolor": "none",
    "linestyle": "none",
}


@figure_style
def quality_vs_nfe(comparison: Comparison) -> bytes | None:
    """Plot each metric against mean NFE (log), one line a series.

    Error bars are ± one standard error; the floor is a band. The first metric has the large panel,
    the others have small ones below.

    Returns:
        The content of a PNG file, or None without a value.
    """
    cells = done_cells(comparison)
    metrics = [m for m in comparison["metrics"] if any(m["name"] in c["quality"] for c in cells)]
    if not metrics:
        return None
    small_rows = -(-(len(metrics) - 1) // 3)
    figure = new_figure(WIDTH, 4.2 + 2.2 * small_rows)
    layout = figure.add_gridspec(1 + small_rows, 6, height_ratios=[4, *[2.2] * small_rows])
    _quality(figure.add_subplot(layout[0, :]), comparison, metrics[0], large=True)
    for number, metric in enumerate(metrics[1:]):
        row, column = divmod(number, 3)
        across = 6 // min(3, len(metrics) - 1)
        place = layout[1 + row, column * across : (column + 1) * across]
        _quality(figure.add_subplot(place), comparison, metric, large=False)
    handles = _handles(comparison, metrics)
    ncols = min(3, len(handles))
    figure.legend(handles=handles, loc="outside lower center", ncols=ncols, fontsize=8.5)
    return to_png(figure, comparison)


def _quality(axes: Axes, comparison: Comparison, metric: Mapping[str, Any], *, large: bool) -> None:
    """Plot one metric against NFE."""
    name, means = metric["name"], []
    done = done_cells(comparison)
    with_value = [cell for cell in done if name in cell["quality"]]
    size: dict[str, Any] = {"markersize": 5 if large else 3, "linewidth": 1.4 if large else 1}
    for series, number in series_numbers(comparison).items():
        cells = [cell for cell in with_value if cell["series"] == series]
        if not cells:
            continue
        cells.sort(key=lambda cell: cell["nfe"]["mean"])
        nfe = [cell["nfe"]["mean"] for cell in cells]
        mean = [cell["quality"][name]["mean"] for cell in cells]
        error = [cell["quality"][name]["se"] or 0.0 for cell in cells]
        means += mean
        style = style_of(number)
        axes.errorbar(nfe, mean, error if any(error) else None, capsize=2.5, **style, **size)
        if large and len(done) <= MANY:
            _annotate(axes, cells, name, style["color"])
    for cell in with_value:
        point = cell["nfe"]["mean"], cell["quality"][name]["mean"]
        if cell["role"] == "reference":
            axes.axhline(point[1], color=GREY, linewidth=0.8, linestyle="--")
            axes.plot(*point, **_RING, markeredgecolor=GREY)
        if cell["id"] == recommended(comparison):
            axes.plot(*point, **_RING, markeredgecolor="black")
    if floor := metric["floor"]:
        means.append(floor["mean"])
        low, high = floor["mean"] - (floor["se"] or 0), floor["mean"] + (floor["se"] or 0)
        axes.axhspan(low, high, color=GREY, alpha=0.25, linewidth=0)
        axes.axhline(floor["mean"], color=GREY, linewidth=0.8)
    if min(means) > 0 and max(means) > 8 * min(means):
        log_axis(axes, "y", min(means), max(means))
    nfe = [cell["nfe"]["mean"] for cell in done]
    log_axis(axes, "x", min(nfe), max(nfe))
    limits = min(nfe) / 1.4, max(nfe) * 1.25
    axes.set(xlim=limits, xlabel="mean NFE", ylabel=metric_title(metric))
    if large:
        samples = f"{samples_of(comparison)} samples"
        bars = " ± standard error" if has_errors(comparison) else ""
        axes.set_title(f"{comparison['model']['name']}, {samples}{bars}", fontsize=9, color=GREY)


def _annotate(axes: Axes, cells: Sequence[Cell], name: str, color: str) -> None:
    """Label the points of adaptive cells with their settings: the first in full, then changes."""
    cells = [cell for cell in cells if cell["adaptive"] and cell["role"] == "contender"]
    settings = [cell["label"].removeprefix(cell["series"]).split() for cell in cells]
    differ = (len(set(words)) > 1 for words in zip(*settings, strict=False))
    common = next((position for position, differs in enumerate(differ) if differs), 0)
    for number, (cell, words) in enumerate(zip(cells, settings, strict=True)):
        text = " ".join(words[common if number else 0 :])
        point = cell["nfe"]["mean"], cell["quality"][name]["mean"]
        axes.annotate(
            text,
            point,
            (5, -11),
            textcoords="offset points",
            ha="left",
            fontsize=8,
            color=color,
        )


def _handles(comparison: Comparison, metrics: Sequence[Mapping[str, Any]]) -> list[Artist]:
    """The entries of the legend: series, then marks."""
    own = {cell["series"] for cell in done_cells(comparison)}
    handles: list[Artist] = [
        Line2D([], [], label=series, markersize=5, **style_of(number))
        for series, number in series_numbers(comparison).items()
        if series in own
    ]
    dashed: dict[str, Any] = {"color": GREY, "linestyle": "--", "linewidth": 0.8}
    ring = {**_RING, "markersize": 8, "markeredgecolor": "black"}
    for cell in done_cells(comparison):
        if cell["role"] == "reference":
            handles.append(Line2D([], [], **dashed, label=f"reference: {cell['label']}"))
        if cell["id"] == recommended(comparison):
            handles.append(Line2D([], [], **ring, label="recommended"))
    if any(metric["floor"] for metric in metrics):
        handles.append(Patch(color=GREY, alpha=0.4, label="floor: real or exact samples"))
    return handles
