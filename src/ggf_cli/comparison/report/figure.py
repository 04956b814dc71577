"""How all plots of a comparison look, and how a figure becomes a PNG file.

Colours are those of Okabe and Ito (2008), which people with any common colour blindness tell apart; marker and dash differ,
too. Bytes are the same for the same comparison and versions: no clock, no user settings, no global state of pyplot.
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

from ggf_cli.comparison.report.series import Cell, Comparison, ordered

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
MARKERS = "osD^vPX*<>"
DASHES = ("-", "--", "-.", ":")
GREY = "#666666"
DPI = 200
WIDTH = 6.2  # inches: a page of text, and small enough to be read on a phone
MANY = 16  # lines or points that can be told apart

# A decorator of functions that draw.
styled = matplotlib.style.context(
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
            "text.parse_math": False,  # names from strangers may hold a dollar sign
        },
    ]
)


def look(place: int) -> dict[str, Any]:
    """Colour, marker and dash of the series (or cell) at this place."""
    return {
        "color": COLOURS[place % len(COLOURS)],
        "marker": MARKERS[place % len(MARKERS)],
        "linestyle": DASHES[place // len(COLOURS) % len(DASHES)],
    }


def new_figure(width: float, height: float) -> Figure:
    """An empty figure, inches."""
    return Figure(figsize=(width, height), layout="constrained")


def to_png(figure: Figure, comparison: Comparison) -> bytes:
    """The content of a PNG file whose text chunks say which command made it."""
    buffer = io.BytesIO()
    text = {"ggf": comparison["command"]}
    if "ggf-cli" in comparison["versions"]:
        text["ggf-version"] = comparison["versions"]["ggf-cli"]
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph")  # a name in a script that the font lacks: boxes
        figure.savefig(buffer, format="png", dpi=DPI, metadata={"Software": None, **text})
    return buffer.getvalue()


def log_axis(axes: Axes, which: str, low: float, high: float) -> None:
    """A logarithmic axis with plain numbers at 1, 2 and 5 times powers of ten, or at those alone where they are many."""
    axes.set(**{f"{which}scale": "log"})
    axis: Axis = getattr(axes, f"{which}axis")
    axis.set_major_locator(LogLocator(subs=(1, 2, 5) if high < 1000 * low else (1,)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.10g}"))
    axis.set_minor_locator(NullLocator())


def drawn(comparison: Comparison) -> list[Cell]:
    """The cells that are done, in the order of the table."""
    return [cell for cell in ordered(comparison) if cell["status"] == "done" and cell["nfe"]]


def places(comparison: Comparison) -> dict[str, int]:
    """{series: its place among all}, so that a solver has the same look in every plot and after a resumption."""
    return {s: i for i, s in enumerate(dict.fromkeys(cell["series"] for cell in comparison["cells"]))}  # fmt: skip
