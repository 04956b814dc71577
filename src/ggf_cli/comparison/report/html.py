"""The HTML report of a comparison: one page without scripts, network access or other files.

Names and errors are untrusted text: the template engine escapes all of it, and the page's content
security policy forbids scripts.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping
from importlib.resources import files
from typing import Any

from jinja2 import Environment, StrictUndefined

from ggf_cli.comparison.report.rows import (
    Comparison,
    columns,
    failures,
    legend,
    ordered,
    rows,
    samples_of,
)
from ggf_cli.registry import SDE_TITLES
from ggf_cli.runs.summary import version_summary

# Pixels of a plot for each pixel of the page.
_DPR = 2

CAPTIONS = {
    "quality-vs-nfe.png": (
        "Plot of quality against mean NFE, one line a solver; the table has the same numbers.",
        "Quality against mean NFE. Bars and the grey band of the floor: ± one standard error.",
    ),
    "grids.png": (
        "Grid of generated images, one row a setting, one column a sample.",
        "The same samples at each setting: all images of a column start from the same prior noise.",
    ),
    "samples.png": (
        "Plots of generated samples, one panel or one row a setting, all on the same axes.",
        "Samples at each setting, on the same axes; equal indices start from the same prior noise.",
    ),
    "nfe-histogram.png": (
        "Histograms of the NFE of samples, one strip an adaptive setting.",
        "NFE of the samples, for the adaptive settings.",
    ),
    "step-sizes.png": (
        "Plot of step size against time, median and band for each setting.",
        "Accepted step sizes from noise (t = 1) to data (t = 0): medians, 10–90 % bands.",
    ),
}


def report(comparison: Comparison, images: Mapping[str, bytes]) -> str:
    """Render the page.

    Args:
        comparison: The content of a `compare.json`.
        images: {file name: content of a PNG file}; those in `CAPTIONS` are included, in its order.
    """
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True)
    page = (files("ggf_cli.comparison.report") / "report.html").read_text(encoding="utf-8")
    shown = columns(comparison)
    blank = dict.fromkeys((column.key for column in shown), "")
    return environment.from_string(page).render(
        title=f"Comparison of solvers for {comparison['model']['name']}",
        comparison={**comparison, "versions": {"ggf-cli": "", **comparison["versions"]}},
        columns=shown,
        rows=[
            {
                "texts": blank | dict(row.texts),
                "kind": row.kind,
                "status": row.status,
                "best": row.best,
                "starts_group": row.starts_group,
            }
            for row in rows(comparison)
        ],
        legend=" ".join(legend(comparison)),
        failures=list(failures(comparison)),
        pending=sum(cell["status"] == "pending" for cell in comparison["cells"]),
        figures=[_figure(name, images[name]) for name in CAPTIONS if name in images],
        settings=list(_settings(comparison)),
        cells=list(ordered(comparison)),
    )


def _figure(name: str, content: bytes) -> dict[str, Any]:
    """The data of an image for the template."""
    alt, caption = CAPTIONS[name]
    # Bytes 16 to 23 of a PNG file are its width and height.
    return {
        "source": f"data:image/png;base64,{base64.b64encode(content).decode()}",
        "alt": alt,
        "caption": caption,
        "width": int.from_bytes(content[16:20]) // _DPR,
        "height": int.from_bytes(content[20:24]) // _DPR,
    }


def _settings(comparison: Comparison) -> Iterator[tuple[str, str]]:
    """The (name, value) pairs of the section of settings."""
    model = comparison["model"]
    size = f" · {model['parameters']:,} parameters" if model["parameters"] else ""
    exact = " · exact score" if model["exact"] else ""
    yield "model", f"{model['name']} · {'×'.join(map(str, model['shape']))}{size}{exact}"
    if model["source"]:
        yield "weights", f"{model['source']} · sha256 {(model['sha256'] or 'unknown')[:16]}"
    hidden = ("name", "data_range", "times", "alpha", "sigma")
    sde = {k: v for k, v in model["sde"].items() if k not in hidden}
    parameters = (f"{key} {value}" for key, value in sde.items())
    yield "SDE", " · ".join([SDE_TITLES[model["sde"]["name"]], *parameters])
    samples = f"{samples_of(comparison)} a setting, the same prior noise in each"
    yield "samples", f"{samples} · seed {comparison['seed']}"
    yield "batch size", str(comparison["batch_size"])
    arithmetic = comparison["precision"] + ", compiled" * comparison["compiled"]
    yield "device", f"{comparison['device']} · {arithmetic}"
    if comparison["budget_s"] is not None:
        yield "time budget", f"{comparison['budget_s'] / 60:.3g} minutes"
    if comparison["preset"]:
        yield "preset", comparison["preset"]
    yield "run", f"{comparison['started_at']} to {comparison['finished_at']}".replace("T", " ")
    yield from version_summary(comparison["versions"])
