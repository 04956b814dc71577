"""The plots of what adaptive solvers do: evaluations of single samples, and step sizes over time.

Each function returns the content of a PNG file, or None where there is nothing to draw.
"""

from __future__ import annotations

from textwrap import wrap

import numpy as np
from matplotlib.ticker import MaxNLocator

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
from ggf_cli.comparison.report.series import Comparison

_BINS = 60
_FEW = 6  # lines whose bands can be told apart


@styled
def nfe_histogram(comparison: Comparison) -> bytes | None:
    """NFE of each sample, one strip for each adaptive cell; every strip is as high as its fullest bin."""
    cells = [cell for cell in drawn(comparison) if cell["adaptive"] and cell["nfe_counts"]]
    if not cells:
        return None
    figure = new_figure(WIDTH, 0.9 + 0.62 * len(cells))
    strips = figure.subplots(len(cells), sharex=True, squeeze=False)[:, 0]
    low = min(cell["nfe"]["min"] for cell in cells)
    high = max(cell["nfe"]["max"] for cell in cells)
    size = max(1, -(-(high + 1 - low) // _BINS))
    edges = np.arange(low, high + size + 1, size) - 0.5
    place = places(comparison)
    for axes, cell in zip(strips, cells, strict=True):
        values, weights = zip(*((int(k), n) for k, n in cell["nfe_counts"].items()), strict=True)
        counts, _ = np.histogram(values, edges, weights=weights)
        color = look(place[cell["series"]])["color"]
        axes.stairs(counts / max(1, counts.max()), edges, fill=True, color=color, alpha=0.75)
        axes.axvline(cell["nfe"]["mean"], color="black", linewidth=1, linestyle="--")
        axes.set(yticks=[], ylim=(0, 1.05))
        axes.grid(False)
        axes.spines["left"].set_visible(False)
        axes.tick_params(bottom=axes is strips[-1])
        label = "\n".join(wrap(cell["label"], 28))
        axes.set_ylabel(label, rotation=0, ha="right", va="center", fontsize=8)
        said = "mean {mean:,.0f}\np95 {p95:,.0f}\nmax {max:,}".format(**cell["nfe"])
        axes.text(1.01, 0.5, said, transform=axes.transAxes, va="center", fontsize=7, color=GREY)
    strips[-1].set_xlabel("NFE of a sample (dashed: mean)")
    strips[-1].xaxis.set_major_locator(MaxNLocator(integer=True))
    return to_png(figure, comparison)


@styled
def step_sizes(comparison: Comparison) -> bytes | None:
    """Accepted step size (log) against t: median and the band from the 10th to the 90th percentile, for each cell.

    Time runs from left to right as the solver goes, from t = 1 down. Fixed-step cells that match an adaptive one have its
    colour. References are left out, and so are fixed steps where there are too many lines.
    """
    cells = [cell for cell in drawn(comparison) if cell["role"] != "reference" and any((cell["step_sizes"] or {"p50": ()})["p50"])]  # fmt: skip
    if not cells:
        return None
    adaptive = [cell for cell in cells if cell["adaptive"]]
    cells = adaptive if adaptive and len(cells) > MANY else cells
    bands = 0 < len(adaptive) <= _FEW
    figure = new_figure(WIDTH, max(3.8, 0.19 * len(cells) + 0.6))
    axes = figure.add_subplot()
    own: dict[str, int] = {}
    for cell in cells:
        of = cell["matches"] if cell["matches"] in own else cell["id"]
        place = own.setdefault(of, len(own))
        style = look(place) | {"marker": None}
        if cell["matches"]:
            style |= {"linestyle": ":", "linewidth": 1}
        t, p10, p50, p90 = (np.array(cell["step_sizes"][key], dtype=float) for key in ("t", "p10", "p50", "p90"))  # fmt: skip
        axes.plot(t, p50, label=cell["label"], **style)
        if cell["adaptive"] and bands:
            axes.fill_between(t, p10, p90, color=style["color"], alpha=0.18, linewidth=0)
    axes.set(xlim=(1, 0), xlabel="t", ylabel="step size h")
    log_axis(axes, "y", *axes.dataLim.intervaly)
    figure.legend(loc="outside right upper", fontsize=8, title="median, 10–90 %" if bands else "median")  # fmt: skip
    return to_png(figure, comparison)
