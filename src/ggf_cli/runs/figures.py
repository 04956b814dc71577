"""Style of all plots, and conversion of figures to PNG files.

The colours are those of Okabe and Ito (2008), which are distinct with any common colour blindness.
The files are the same for the same data and versions: they do not depend on the clock, user
settings or the global state of pyplot.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Mapping
from typing import Any

import matplotlib.style
from matplotlib.figure import Figure

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
DASHES = ("-", "--", "-.", ":")
GREY = "#666666"
DPI = 200
# Inches: the width of a page of text.
WIDTH = 6.2

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


def line_style(number: int) -> dict[str, Any]:
    """Return colour and dash of the line with this number."""
    return {
        "color": COLOURS[number % len(COLOURS)],
        "linestyle": DASHES[number // len(COLOURS) % len(DASHES)],
    }


def new_figure(width: float, height: float) -> Figure:
    """Make an empty figure; width and height in inches."""
    return Figure(figsize=(width, height), layout="constrained")


def png_of(figure: Figure, text: Mapping[str, str]) -> bytes:
    """Return the content of a PNG file with these text chunks."""
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        # Characters that the font does not have are drawn as boxes.
        warnings.filterwarnings("ignore", "Glyph")
        figure.savefig(buffer, format="png", dpi=DPI, metadata={"Software": None, **text})
    return buffer.getvalue()
