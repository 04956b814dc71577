"""The plots of adaptive solvers: histogram of the NFE of samples, and step sizes over time.

Each function returns the content of a PNG file, or None if no cell has data for the plot.
"""

from __future__ import annotations

from textwrap import wrap

import numpy as np
from matplotlib.ticker import MaxNLocator

from ggf_cli.comparison.report.figure import (
    MANY,
    done_cells,
    log_axis,
    series_numbers,
    style_of,
    to_png,
)
from ggf_cli.comparison.report.rows import Comparison
from ggf_cli.runs.figures import GREY, WIDTH, figure_style, new_figure

_BINS = 60
# With more lines, overlapping bands are not readable.
_MAX_BANDS = 6


@figure_style
def nfe_histogram(comparison: Comparison) -> bytes | None:
    """Plot the histogram of the NFE of samples, one strip for each adaptive cell.

    Each strip is scaled to its highest bin.
    """
    cells = [cell for cell in done_cells(comparison) if cell["adaptive"] and cell["nfe_counts"]]
    if not cells:
        return None
    figure = new_figure(WIDTH, 0.9 + 0.62 * len(cells))
    strips = figure.subplots(len(cells), sharex=True, squeeze=False)[:, 0]
    low = min(cell["nfe"]["min"] for cell in cells)
    high = max(cell["nfe"]["max"] for cell in cells)
    size = max(1, -(-(high + 1 - low) // _BINS))
    edges = np.arange(low, high + size + 1, size) - 0.5
    numbers = series_numbers(comparison)
    for axes, cell in zip(strips, cells, strict=True):
        values, weights = zip(*((int(k), n) for k, n in cell["nfe_counts"].items()), strict=True)
        counts, _ = np.histogram(values, edges, weights=weights)
        color = style_of(numbers[cell["series"]])["color"]
        axes.stairs(counts / max(1, counts.max()), edges, fill=True, color=color, alpha=0.75)
        axes.axvline(cell["nfe"]["mean"], color="black", linewidth=1, linestyle="--")
        axes.set(yticks=[], ylim=(0, 1.05))
        axes.grid(False)
        axes.spines["left"].set_visible(False)
        axes.tick_params(bottom=axes is strips[-1])
        label = "\n".join(wrap(cell["label"], 28))
        axes.set_ylabel(label, rotation=0, ha="right", va="center", fontsize=8)
        text = "mean {mean:,.0f}\np95 {p95:,.0f}\nmax {max:,}".format(**cell["nfe"])
        axes.text(1.01, 0.5, text, transform=axes.transAxes, va="center", fontsize=7, color=GREY)
    strips[-1].set_xlabel("NFE of a sample (dashed: mean)")
    strips[-1].xaxis.set_major_locator(MaxNLocator(integer=True))
    return to_png(figure, comparison)


@figure_style
def step_sizes(comparison: Comparison) -> bytes | None:
    """Plot accepted step sizes (log) against t: for each cell the median, and a 10–90 % band.

    The t axis runs from 1 to 0, in the order of the solver. Fixed-step cells that match an adaptive
    one have its colour. References are left out, and so are fixed-step cells if there are too many
    lines.
    """
    cells = [
        cell
        for cell in done_cells(comparison)
        if cell["role"] != "reference" and cell["step_sizes"] and any(cell["step_sizes"]["p50"])
    ]
    if not cells:
        return None
    adaptive = [cell for cell in cells if cell["adaptive"]]
    cells = adaptive if adaptive and len(cells) > MANY else cells
    bands = 0 < len(adaptive) <= _MAX_BANDS
    figure = new_figure(WIDTH, max(3.8, 0.19 * len(cells) + 0.6))
    axes = figure.add_subplot()
    own: dict[str, int] = {}
    for cell in cells:
        owner = cell["matches"] if cell["matches"] in own else cell["id"]
        number = own.setdefault(owner, len(own))
        style = style_of(number) | {"marker": None}
        if cell["matches"]:
            style |= {"linestyle": ":", "linewidth": 1}
        t, p10, p50, p90 = (
            np.array(cell["step_sizes"][key], dtype=float) for key in ("t", "p10", "p50", "p90")
        )
        axes.plot(t, p50, label=cell["label"], **style)
        if cell["adaptive"] and bands:
            axes.fill_between(t, p10, p90, color=style["color"], alpha=0.18, linewidth=0)
    latest = max(cell["step_sizes"]["t"][0] for cell in cells)
    axes.set(xlim=(max(1, latest), 0), xlabel="t", ylabel="step size h")
    log_axis(axes, "y", *axes.dataLim.intervaly)
    title = "median, 10–90 %" if bands else "median"
    figure.legend(loc="outside right upper", fontsize=8, title=title)
    return to_png(figure, comparison)
