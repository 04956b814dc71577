"""The pictures of all cells, same seeds side by side."""

from __future__ import annotations

from collections.abc import Mapping
from textwrap import wrap

import numpy as np
from matplotlib.figure import Figure
from torch import Tensor

from ggf_cli.comparison.report.figure import DPI, GREY, styled, to_png
from ggf_cli.comparison.report.series import Cell, Comparison, ordered, plus_minus
from ggf_cli.runs.images import grid, to_uint8
from ggf_cli.runs.writer import are_images

_MARGIN = 440  # pixels for the labels
_HEAD = 40  # pixels for the sample indices


@styled
def grids(comparison: Comparison, pictures: Mapping[str, Tensor]) -> bytes | None:
    """One row a cell, one column a sample index, as a PNG file; None without images to draw.

    Args:
        comparison: The content of a `compare.json`.
        pictures: {cell id: (k, C, H, W) float in [0, 1]}, sample indices 0 to k - 1 of the seed; samples of all cells have
            one shape. Cells without pictures are left out, and those not finite are drawn black.
    """
    cells = [cell for cell in ordered(comparison) if len(pictures.get(cell["id"], ()))]
    if not cells or not are_images(tuple(pictures[cells[0]["id"]].shape[1:])):
        return None
    columns = max(len(pictures[cell["id"]]) for cell in cells)
    strips = [_strip(pictures[cell["id"]], columns) for cell in cells]
    height, width = strips[0].shape[:2]
    height = max(height, 100)  # room for two lines of text
    total = _MARGIN + width, _HEAD + height * len(cells)
    # Laid out in pixels: pictures are placed on them exactly and never resampled.
    figure = Figure(figsize=(total[0] / DPI, total[1] / DPI), dpi=DPI)
    tile = width / columns
    for column in range(columns):
        x = (_MARGIN + (column + 0.5) * tile) / total[0]
        figure.text(x, 1 - _HEAD / 2 / total[1], str(column), ha="center", va="center", fontsize=8, color=GREY)  # fmt: skip
    figure.text(10 / total[0], 1 - _HEAD / 2 / total[1], f"sample of seed {comparison['seed']}", va="center", fontsize=8, color=GREY)  # fmt: skip
    for row, (cell, strip) in enumerate(zip(cells, strips, strict=True)):
        bottom = total[1] - _HEAD - (row + 1) * height
        figure.figimage(strip, _MARGIN, bottom + (height - len(strip)) // 2)
        x, middle = 34 if cell["role"] == "matched" else 10, bottom + height / 2
        label = "\n".join(wrap(cell["label"], 24))
        figure.text(x / total[0], (middle + 1) / total[1], label, va="bottom", fontsize=9.5)
        figure.text(x / total[0], (middle - 4) / total[1], _about(comparison, cell), va="top", fontsize=7.5, color=GREY)  # fmt: skip
    return to_png(figure, comparison)


def _strip(pictures: Tensor, columns: int) -> np.ndarray:
    """(k, C, H, W) -> (H', W', 3) uint8."""
    tensors = pictures.detach().cpu().float().nan_to_num(0.0, 0.0, 0.0).clamp(0, 1)
    levels = to_uint8(grid(list(tensors), 1, columns))
    return levels.repeat(3, axis=2) if levels.shape[2] == 1 else levels


def _about(comparison: Comparison, cell: Cell) -> str:
    parts = [f"NFE {cell['nfe']['mean']:,.0f}"] if cell["nfe"] else [cell["status"]]
    for metric in comparison["metrics"][:1]:
        if quality := cell["quality"].get(metric["name"]):
            parts.append(f"{metric['title']} {plus_minus(quality, metric['digits'])}")
    return " · ".join(parts)
