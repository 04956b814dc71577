"""Plots of samples that are not images: points and numbers one panel a cell, signals one row."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from textwrap import wrap

import numpy as np
from torch import Tensor

from ggf_cli.comparison.report.figure import to_png
from ggf_cli.comparison.report.rows import Comparison, caption_of, ordered
from ggf_cli.runs.figures import GREY, figure_style, new_figure
from ggf_cli.runs.pictures import picture_of
from ggf_cli.runs.plots import (
    SignalPanels,
    as_numbers,
    bins_of,
    draw_points,
    draw_values,
    limits_of,
    square_limits,
)

# Panels in a row, and inches: the width of a panel of points, and the room for labels.
_COLUMNS, _PANEL, _LABELS = 3, 2.2, 2.3
# Cells in the figure. A PNG file of matplotlib has 2^16 pixels a side at most.
_MAX_CELLS = 60
# The axes show this share of the samples, and a margin.
_SHARE = 0.996
_MARGIN = 0.25
_REFERENCE = "reference"


@dataclass(frozen=True, kw_only=True)
class _Group:
    """Samples with a label: those of a cell, or of the reference.

    Attributes:
        label: The label.
        caption: The second line, smaller.
        x: The samples, (k, *shape).
        indented: Whether the label is indented, as in the table.
    """

    label: str
    caption: str
    x: np.ndarray
    indented: bool = False


@figure_style
def samples(
    comparison: Comparison, pictures: Mapping[str, Tensor], reference: Tensor | None = None
) -> bytes | None:
    """Draw the plots as a PNG file; None if there are no samples, or they are images or volumes.

    Args:
        comparison: The content of a `compare.json`.
        pictures: {cell id: (k, *shape)}, of sample index 0 on; those of signals that did not reach
            the end are NaN. Cells without samples are left out, and those after the first 60.
        reference: Real or exact samples (k, *shape), shown first. The axes fit them if given, else
            most samples of all cells.
    """
    cells = [cell for cell in ordered(comparison) if len(pictures.get(cell["id"], ()))]
    groups = [
        _Group(
            label=cell["label"],
            caption=caption_of(comparison, cell),
            x=_as_array(pictures[cell["id"]]),
            indented=cell["role"] == "matched",
        )
        for cell in cells[:_MAX_CELLS]
    ]
    picture = picture_of(groups[0].x.shape[1:], images=True) if groups else None
    if picture in (None, "grid"):
        return None
    if reference is not None and len(reference):
        caption = "real or exact samples"
        groups.insert(0, _Group(label=_REFERENCE, caption=caption, x=_as_array(reference)))
    if picture == "lines":
        return _signals(comparison, groups)
    return _panels(comparison, groups, points=picture == "scatter")


def _panels(comparison: Comparison, groups: list[_Group], *, points: bool) -> bytes:
    """Small multiples of points (k, 2), or of histograms of numbers (k, 1)."""
    known = groups[0].label == _REFERENCE
    low, high = _most([group.x for group in (groups[:1] if known else groups)])
    if points:
        limits = square_limits(np.stack([low, high]), margin=_MARGIN)
    else:
        limits = np.array([limits_of(low[0], high[0], margin=_MARGIN)])
    columns = min(_COLUMNS, len(groups))
    rows = -(-len(groups) // columns)
    height = (_PANEL if points else 0.6 * _PANEL) + 0.4
    figure = new_figure(columns * _PANEL + 0.6, rows * height + 0.3)
    panels = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False).ravel()
    for axes, group in zip(panels, groups, strict=False):
        if points:
            draw_points(axes, group.x, limits)
        else:
            draw_values(axes, group.x, bins_of(group.x, *limits[0]), density=True)
        outside = int(((group.x < limits[:, 0]) | (group.x > limits[:, 1])).any(axis=1).sum())
        if outside:
            axes.text(
                0.98,
                0.98,
                f"{outside:,} outside",
                transform=axes.transAxes,
                ha="right",
                va="top",
                fontsize=7,
                color=GREY,
                bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 1},
            )
        label = "\n".join(wrap(group.label, 30))
        axes.set_title(label, loc="left", fontsize=8.5, pad=14)
        axes.annotate(
            group.caption,
            (0, 1),
            (0, 4),
            xycoords="axes fraction",
            textcoords="offset points",
            fontsize=7,
            color=GREY,
        )
        axes.tick_params(labelsize=8)
    for place, axes in enumerate(panels):
        if place >= len(groups):
            axes.remove()
        elif place + columns >= len(groups):
            axes.tick_params(labelbottom=True)
            axes.set_xlabel("x₁" if points else "x", fontsize=9)
        if place % columns == 0 and place < len(groups):
            axes.set_ylabel("x₂" if points else "density", fontsize=9)
    return to_png(figure, comparison)


def _signals(comparison: Comparison, groups: list[_Group]) -> bytes | None:
    """Signals (k, L) or (k, C, L): one row a group, one column a sample index."""
    low, high = _most([group.x.reshape(-1, 1) for group in groups])
    if not np.isfinite(low).all():
        return None
    limits = limits_of(low[0], high[0], margin=_MARGIN)
    columns = max(len(group.x) for group in groups)
    panels = SignalPanels(len(groups), columns, groups[0].x.shape[1:], left=_LABELS)
    width, height = panels.figure.get_size_inches()
    first = len(groups) > 1 and groups[0].label == _REFERENCE
    for row, group in enumerate(groups):
        for column, signal in enumerate(group.x):
            axes = panels.draw(
                signal, row, column, limits, left=column == 0, bottom=row == len(groups) - 1
            )
            if row == first:
                title = column or f"sample 0 of seed {comparison['seed']}"
                axes.set_title(str(title), loc="left", fontsize=7, color=GREY, pad=2)
            if column == 0:
                box = axes.get_position()
                x, middle = (0.3 if group.indented else 0.1) / width, (box.y0 + box.y1) / 2
                label = "\n".join(wrap(group.label, 26))
                panels.figure.text(x, middle + 0.02 / height, label, va="bottom", fontsize=8.5)
                panels.figure.text(
                    x,
                    middle - 0.03 / height,
                    "\n".join(wrap(group.caption, 34)),
                    va="top",
                    fontsize=7,
                    color=GREY,
                )
    return to_png(panels.figure, comparison)


def _as_array(x: Tensor) -> np.ndarray:
    return as_numbers(x.detach().cpu().numpy())


def _most(groups: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """The range of most rows of each (N, D) in each column: its median over the groups.

    So a solver that fails does not decide about the axes of the others. NaN are left out.
    """
    tail = (1 - _SHARE) / 2
    finite = [x[np.isfinite(x).all(axis=1)] for x in groups]
    ranges = [np.quantile(x, [tail, 1 - tail], axis=0) for x in finite if len(x)]
    low, high = np.median(ranges, axis=0) if ranges else np.full((2, groups[0].shape[1]), np.nan)
    return low, high
