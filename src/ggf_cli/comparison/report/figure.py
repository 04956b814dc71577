"""Style of the plots of a comparison, and conversion of figures to PNG files.

The colours are those of Okabe and Ito (2008), which are distinct with any common colour blindness;
markers and dashes differ too. The files are the same for the same comparison and versions: they do
not depend on the clock, user settings or the global state of pyplot.
"""

from __future__ import annotations

import io
import warnings
from typing import Any

import matplotlib.style
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from ggf_cli.comparison.report.rows import Cell, Comparison, ordered

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
MARKERS = "osD^vPX*<>"
DASHES = ("-", "--", "-.", ":")
GREY = "#666666"
DPI = 200
# Inches: the width of a page of text.
WIDTH = 6.2
# More lines or labels than this are not readable.
MANY = 16

# Decorator of plotting functions: the style of all plots.
figure_style = matplotlib.style.context(
    [
        "default",
        {
            "font.size": 10,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.grid": True,
            "grid.color": "#e4e4e4",
            "grid.linewidth": 0.6,
            "axes.axisbelow": True,
            "legend.frameon": False,
            # Untrusted names may have a dollar sign.
            "text.parse_math": False,
        },
    ]
)


def style_of(number: int) -> dict[str, Any]:
    """Return colour, marker and dash of the series (or cell) with this number."""
    return {
        "color": COLOURS[number % len(COLOURS)],
        "marker": MARKERS[number % len(MARKERS)],
        "linestyle": DASHES[number // len(COLOURS) % len(DASHES)],
    }


def new_figure(width: float, height: float) -> Figure:
    """Make an empty figure; width and height in inches."""
    return Figure(figsize=(width, height), layout="constrained")


def to_png(figure: Figure, comparison: Comparison) -> bytes:
    """Return the content of a PNG file; its text chunks have the command and the version."""
    buffer = io.BytesIO()
    text = {"ggf": comparison["command"]}
    if "ggf-cli" in comparison["versions"]:
        text["ggf-version"] = comparison["versions"]["ggf-cli"]
    with warnings.catch_warnings():
        # Characters that the font does not have are drawn as boxes.
        warnings.filterwarnings("ignore", "Glyph")
        figure.savefig(buffer, format="png", dpi=DPI, metadata={"Software": None, **text})
    return buffer.getvalue()


def log_axis(axes: Axes, which: str, low: float, high: float) -> None:
    """Make an axis logarithmic, with plain numbers at 1, 2 and 5 times powers of ten.

    A range of three decades or more has numbers at powers of ten only.
    """
    axes.set(**{f"{which}scale": "log"})
    axis: Axis = getattr(axes, f"{which}axis")
    axis.set_major_locator(LogLocator(subs=(1, 2, 5) if high < 1000 * low else (1,)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.10g}"))
    axis.set_minor_locator(NullLocator())


def done_cells(comparison: Comparison) -> list[Cell]:
    """Return the cells that are done, in the order of the table."""
    return [cell for cell in ordered(comparison) if cell["status"] == "done" and cell["nfe"]]


def series_numbers(comparison: Comparison) -> dict[str, int]:
    """Number all series, {series: number}, so that each has the same style in every plot."""
    series = dict.fromkeys(cell["series"] for cell in comparison["cells"])
    return {name: number for number, name in enumerate(series)}
