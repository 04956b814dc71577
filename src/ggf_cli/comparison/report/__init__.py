"""The outputs of a comparison: terminal table, CSV export, plots and HTML report.

They are made from the content of `compare.json` (`ggf_cli/schemas/compare-1.json`) and the
generated images only. Importing this package imports neither torch nor matplotlib.

rows             columns and rows of the table, as text
table            the table in the terminal
csv_export       compare.csv
figure           style of the plots, PNG files
quality          the plot of quality against NFE
distributions    the plots of NFE and step sizes
grids            the grid of images
samples          plots of samples that are not images
html             report.html
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ggf_cli.comparison.report.csv_export import csv_text
from ggf_cli.comparison.report.rows import Comparison
from ggf_cli.comparison.report.table import table as table
from ggf_cli.files import sha256_of
from ggf_cli.runs.layout import write_atomically

if TYPE_CHECKING:
    from torch import Tensor

COMPARISON = "compare.json"


def write_outputs(
    comparison: Comparison,
    pictures: Mapping[str, Tensor],
    folder: Path,
    *,
    reference: Tensor | None = None,
) -> dict[str, Any]:
    """Write `compare.csv`, the plots and `report.html`, and then `compare.json`.

    Each file is written atomically and replaces that of an earlier call.

    Args:
        comparison: The content of `compare.json` without "files".
        pictures: {cell id: (k, C, H, W) float in [0, 1]}, see `grids`, or the states of samples
            that are not images, see `samples`; may be empty.
        folder: Created if it does not exist.
        reference: Real or exact samples to be shown beside them, if they are not images.

    Returns:
        The content of `compare.json`: the comparison with "files", [{"path", "sha256"}] of all
        other files.

    Raises:
        OutputError: The disk is full, or the folder is not writable.
    """
    from ggf_cli.comparison.report.distributions import nfe_histogram, step_sizes
    from ggf_cli.comparison.report.grids import grids
    from ggf_cli.comparison.report.html import report
    from ggf_cli.comparison.report.quality import quality_vs_nfe
    from ggf_cli.comparison.report.samples import samples

    drawn = {
        "quality-vs-nfe.png": quality_vs_nfe(comparison),
        "nfe-histogram.png": nfe_histogram(comparison),
        "step-sizes.png": step_sizes(comparison),
        "grids.png": grids(comparison, pictures),
        "samples.png": samples(comparison, pictures, reference),
    }
    images = {name: content for name, content in drawn.items() if content is not None}
    texts = {"compare.csv": csv_text(comparison), "report.html": report(comparison, images)}
    contents = images | {name: text.encode() for name, text in texts.items()}
    for name, content in contents.items():
        write_atomically(folder / name, content)
    written = [{"path": name, "sha256": sha256_of(contents[name])} for name in sorted(contents)]
    document = {**comparison, "files": written}
    text = json.dumps(document, indent=2, allow_nan=False)
    write_atomically(folder / COMPARISON, text.encode() + b"\n")
    return document
