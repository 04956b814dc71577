"""Series, axes and PNG files of the plots of a comparison. Their style is that of all plots.

Series differ in colour, marker and dash.
"""

from __future__ import annotations

from typing import Any

from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from ggf_cli.comparison.report.rows import Cell, Comparison, ordered
from ggf_cli.runs.figures import line_style, png_of

MARKERS = "osD^vPX*<>"
# More lines or labels than this are not readable.
MANY = 16


def style_of(number: int) -> dict[str, Any]:
    """Return colour, marker and dash of the series (or cell) with this number."""
    return line_style(number) | {"marker": MARKERS[number % len(MARKERS)]}


def to_png(figure: Figure, comparison: Comparison) -> bytes:
    """Return the content of a PNG file; its text chunks have the command and the version."""
    text = {"ggf": comparison["command"]}
    if "ggf-cli" in comparison["versions"]:
        text["ggf-version"] = comparison["versions"]["ggf-cli"]
    return png_of(figure, text)


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
