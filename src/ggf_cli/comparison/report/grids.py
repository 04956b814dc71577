"""The grid of images of all cells: one row a cell, one column a sample index."""

from __future__ import annotations

from collections.abc import Mapping
from textwrap import wrap
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from torch import Tensor

from ggf_cli.comparison.report.figure import to_png
from ggf_cli.comparison.report.rows import Comparison, caption_of, ordered
from ggf_cli.runs.figures import DPI, GREY, figure_style
from ggf_cli.runs.images import grid, to_uint8
from ggf_cli.runs.pictures import picture_of

# Pixels for the labels.
_MARGIN = 440
# Pixels for the sample indices.
_HEAD = 40
# Pixels of a row: room for two lines of text.
_MIN_HEIGHT = 100


@figure_style
def grids(comparison: Comparison, pictures: Mapping[str, Tensor]) -> bytes | None:
    """Draw the grid as a PNG file; None if there are no images.

    Args:
        comparison: The content of a `compare.json`.
        pictures: {cell id: (k, C, H, W) float in [0, 1]}, sample indices 0 to k - 1 of the seed,
            all of one shape. Cells without images are left out; values that are not finite are
            black.
    """
    cells = [cell for cell in ordered(comparison) if len(pictures.get(cell["id"], ()))]
    if not cells or picture_of(pictures[cells[0]["id"]].shape[1:], images=True) != "grid":
        return None
    columns = max(len(pictures[cell["id"]]) for cell in cells)
    strips = [_strip(pictures[cell["id"]], columns) for cell in cells]
    height, width = strips[0].shape[:2]
    height = max(height, _MIN_HEIGHT)
    total = _MARGIN + width, _HEAD + height * len(cells)
    # The layout is in pixels, so that images are not resampled.
    figure = Figure(figsize=(total[0] / DPI, total[1] / DPI), dpi=DPI)
    tile, top = width / columns, 1 - _HEAD / 2 / total[1]
    head: dict[str, Any] = {"va": "center", "fontsize": 8, "color": GREY}
    for column in range(columns):
        x = (_MARGIN + (column + 0.5) * tile) / total[0]
        figure.text(x, top, str(column), ha="center", **head)
    figure.text(10 / total[0], top, f"sample of seed {comparison['seed']}", **head)
    for row, (cell, strip) in enumerate(zip(cells, strips, strict=True)):
        bottom = total[1] - _HEAD - (row + 1) * height
        figure.figimage(strip, _MARGIN, bottom + (height - len(strip)) // 2)
        x, middle = 34 if cell["role"] == "matched" else 10, bottom + height / 2
        label, caption = "\n".join(wrap(cell["label"], 24)), caption_of(comparison, cell)
        below = (middle - 4) / total[1]
        figure.text(x / total[0], (middle + 1) / total[1], label, va="bottom", fontsize=9.5)
        figure.text(x / total[0], below, caption, va="top", fontsize=7.5, color=GREY)
    return to_png(figure, comparison)


def _strip(pictures: Tensor, columns: int) -> np.ndarray:
    """Join images (k, C, H, W) to a strip (H', W', 3) uint8 of `columns` tiles."""
    tensors = pictures.detach().cpu().float().nan_to_num(0.0, 0.0, 0.0).clamp(0, 1)
    levels = to_uint8(grid(list(tensors), 1, columns))
    return levels.repeat(3, axis=2) if levels.shape[2] == 1 else levels
