"""Plots of samples that are not images: points of the plane, numbers, and signals.

`scatter`, `histogram` and `lines` are the pictures of a run. The other functions draw one panel;
the report of a comparison uses them too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, MaxNLocator

from ggf_cli.documents import HUGE
from ggf_cli.runs.figures import COLOURS, GREY, WIDTH, figure_style, line_style, new_figure, png_of

Limits = tuple[float, float]

# Inches around and between the panels of signals, and for a line of the legend.
_LEFT, _BOTTOM, _GAP, _HEAD, _LEGEND = 0.55, 0.44, 0.12, 0.2, 0.2
# Inches: the width of a panel of signals.
_NARROW, _WIDE = 1.2, 4.4
# A longer signal is drawn as the lowest and highest value of each of so many parts.
_PARTS = 1000
_MAX_BINS = 60


@figure_style
def scatter(points: np.ndarray, text: Mapping[str, str]) -> bytes:
    """Plot points (N, 2) of the plane, N >= 1, as a PNG file with these text chunks."""
    points = as_numbers(points)
    figure = new_figure(4.4, 4.5)
    axes = figure.add_subplot()
    draw_points(axes, points, square_limits(points))
    axes.set(xlabel="x₁", ylabel="x₂")
    axes.set_title(_count(points), loc="right", fontsize=8, color=GREY)
    return png_of(figure, text)


@figure_style
def histogram(values: np.ndarray, text: Mapping[str, str]) -> bytes:
    """Plot the histogram of numbers (N, 1), N >= 1, as a PNG file with these text chunks."""
    values = as_numbers(values)
    figure = new_figure(4.8, 3.2)
    axes = figure.add_subplot()
    draw_values(axes, values, bins_of(values, *limits_of(values.min(), values.max(), margin=0)))
    axes.set(xlabel="x", ylabel="samples in a bin")
    axes.yaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_title(_count(values), loc="right", fontsize=8, color=GREY)
    return png_of(figure, text)


@figure_style
def lines(
    signals: Mapping[int, np.ndarray],
    places: Sequence[int | None],
    columns: int,
    text: Mapping[str, str],
) -> bytes:
    """Plot signals, one panel each, in rows, as a PNG file with these text chunks.

    All panels have the same axes. Each has its sample index above it.

    Args:
        signals: {sample index: (L,) or (C, L)}, at least one.
        places: The sample index of each panel; None: an empty place.
        columns: Panels in a row.
        text: The text chunks.
    """
    drawn = {index: as_numbers(x) for index, x in signals.items()}
    limits = limits_of(min(x.min() for x in drawn.values()), max(x.max() for x in drawn.values()))
    columns = min(columns, len(places))
    panels = SignalPanels(-(-len(places) // columns), columns, next(iter(drawn.values())).shape)
    there = {place: index for place, index in enumerate(places) if index is not None}
    for place, index in there.items():
        row, column = divmod(place, columns)
        axes = panels.draw(
            drawn[index],
            row,
            column,
            limits,
            # The outer panels have numbers at their axes.
            left=not any(p in there for p in range(row * columns, place)),
            bottom=not any(p in there for p in range(place + columns, len(places), columns)),
        )
        title = f"sample {index}" if place == min(there) else str(index)
        axes.set_title(title, loc="left", fontsize=7, color=GREY, pad=2)
    return png_of(panels.figure, text)


class SignalPanels:
    """A figure of signals in rows and columns, with the same axes in each panel.

    The layout is in inches: finding one that fits takes matplotlib several seconds.

    Args:
        rows: Rows of panels.
        columns: Panels in a row.
        shape: The shape of a signal, (L,) or (C, L).
        left: Inches at the left of the panels.
        head: Inches above each row.

    Attributes:
        figure: The figure.
    """

    def __init__(
        self,
        rows: int,
        columns: int,
        shape: tuple[int, ...],
        *,
        left: float = _LEFT,
        head: float = _HEAD,
    ) -> None:
        channels = shape[0] if len(shape) == 2 else 1
        width = min(_WIDE, max(_NARROW, (WIDTH - left) / columns - _GAP))
        self._width, height = width, max(0.8, 0.55 * width)
        in_line = min(channels, 8, max(2, int((columns * width + left) / 1.1)))
        legend = 0.0 if channels == 1 else 0.06 + _LEGEND * -(-channels // in_line)
        total = left + columns * (width + _GAP), legend + rows * (height + head) + _BOTTOM
        self.figure = Figure(figsize=total)
        self._grid = self.figure.add_gridspec(
            rows,
            columns,
            left=left / total[0],
            right=1 - _GAP / total[0],
            top=1 - (legend + head) / total[1],
            bottom=_BOTTOM / total[1],
            wspace=_GAP / width,
            hspace=head / height,
        )
        middle = (left + total[0] - _GAP) / 2 / total[0]
        self.figure.text(middle, 0.06 / total[1], "position", ha="center", fontsize=9)
        if legend:
            handles = [Line2D([], [], **line_style(channel)) for channel in range(channels)]
            self.figure.legend(
                handles,
                [f"channel {channel}" for channel in range(channels)],
                loc="upper center",
                bbox_to_anchor=(middle, 1 - 0.04 / total[1]),
                borderaxespad=0,
                ncols=in_line,
                fontsize=8,
                labelspacing=0.3,
            )

    def draw(
        self,
        signal: np.ndarray,
        row: int,
        column: int,
        limits: Limits,
        *,
        left: bool,
        bottom: bool,
    ) -> Axes:
        """Draw a signal into a panel, with numbers at its left and below it if asked for."""
        axes = self.figure.add_subplot(self._grid[row, column])
        for channel, values in enumerate(np.atleast_2d(signal)):
            axes.plot(*_thinned(values), linewidth=0.8, **line_style(channel))
        axes.set(xlim=limits_of(0, signal.shape[-1] - 1, margin=0.02), ylim=limits)
        ticks = 3 if self._width < 2 else 5
        axes.xaxis.set_major_locator(MaxNLocator(ticks, integer=True))
        axes.yaxis.set_major_locator(MaxNLocator(ticks))
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_formatter(FuncFormatter(lambda v, _: f"{v:.6g}".replace("-", "−")))
        axes.tick_params(labelsize=7, length=2, labelleft=left, labelbottom=bottom)
        return axes


def draw_points(axes: Axes, points: np.ndarray, limits: np.ndarray) -> None:
    """Draw points (N, 2) on axes with limits (2, 2): the more points, the smaller and fainter."""
    count = max(1, len(points))
    axes.plot(
        *points.T,
        linestyle="",
        marker="o",
        markersize=min(4.5, 9 * count**-0.2),
        markeredgewidth=0,
        alpha=min(0.8, 3 * count**-0.23),
        color=COLOURS[0],
    )
    axes.set(xlim=limits[0], ylim=limits[1], aspect="equal")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(MaxNLocator(5))


def draw_values(
    axes: Axes, values: np.ndarray, edges: np.ndarray, *, density: bool = False
) -> None:
    """Draw the histogram of numbers (N, 1): their counts, or the density."""
    counts, _ = np.histogram(values, edges)
    # Numbers outside of the edges count too.
    heights = counts / (len(values) * np.diff(edges)) if density else counts
    axes.stairs(heights, edges, fill=True, color=COLOURS[0], alpha=0.75)
    axes.set(xlim=limits_of(edges[0], edges[-1], margin=0.02))


def as_numbers(x: np.ndarray) -> np.ndarray:
    """Samples as float64, cut off at numbers that cannot be drawn."""
    return np.clip(x.astype(np.float64), -HUGE, HUGE)


def limits_of(low: float, high: float, *, margin: float = 0.05) -> Limits:
    """The limits of an axis from `low` to `high`, with a margin, a share of their distance."""
    span = max(high - low, 1e-6 * max(abs(low), abs(high)), 1e-30)
    middle, half = (low + high) / 2, (0.5 + margin) * span
    return float(middle - half), float(middle + half)


def square_limits(points: np.ndarray, *, margin: float = 0.05) -> np.ndarray:
    """The limits of two axes of one length that show all points (N, 2), N >= 1: (2, 2)."""
    low, high = points.min(0), points.max(0)
    middle, half = (low + high) / 2, (high - low).max() / 2
    limits = np.array([limits_of(m - half, m + half, margin=margin) for m in middle])
    reach = np.ptp(limits, axis=1).max() / 2
    return np.stack([middle - reach, middle + reach], axis=1)


def bins_of(values: np.ndarray, low: float, high: float) -> np.ndarray:
    """The edges of the bins of a histogram: about as many as the square root of the numbers."""
    return np.linspace(low, high, 1 + min(_MAX_BINS, max(5, round(len(values) ** 0.5))))


def _thinned(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Positions and values of a signal (L,); of a long one the extremes of each of its parts."""
    size = -(-len(values) // _PARTS)
    if size < 4:
        return np.arange(len(values)), values
    starts = np.arange(0, len(values), size)
    low, high = np.minimum.reduceat(values, starts), np.maximum.reduceat(values, starts)
    return np.repeat(starts, 2), np.stack([low, high], axis=1).ravel()


def _count(samples: np.ndarray) -> str:
    return f"{len(samples):,} sample{'s' if len(samples) > 1 else ''}"
