"""A comparison as one HTML page that needs nothing else: no script, no network, no other file.

Names and errors are strangers' text: the template engine escapes all of it, and the page forbids itself scripts.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping
from importlib.resources import files
from typing import Any

from jinja2 import Environment, StrictUndefined

from ggf_cli.comparison.report.series import (
    Comparison,
    columns,
    failures,
    legend,
    lines,
    ordered,
    samples_of,
)
from ggf_cli.registry import SDE_TITLES
from ggf_cli.runs.summary import version_facts

_DPR = 2  # pixels of a plot for each pixel of the page

CAPTIONS = {
    "quality-vs-nfe.png": (
        "Plot of quality against mean NFE, one line a solver; the table holds its numbers.",
        "Quality against the mean NFE of a sample. Bars: one standard error. Grey band: the floor.",
    ),
    "grids.png": (
        "Rows of generated pictures, one row a setting, one column a sample.",
        "The same samples by every setting: all pictures of a column start from the same prior noise.",
    ),
    "nfe-histogram.png": (
        "Histograms of the NFE of single samples, one strip an adaptive setting.",
        "Evaluations that single samples needed, for the adaptive settings.",
    ),
    "step-sizes.png": (
        "Plot of step size against time, median and band for each setting.",
        "Accepted step sizes from noise (t = 1) to data (t = 0): median, and 10th to 90th percentile where drawn.",
    ),
}


def report(comparison: Comparison, images: Mapping[str, bytes]) -> str:
    """The page.

    Args:
        comparison: The content of a `compare.json`.
        images: {file name: content of a PNG file}; those that `CAPTIONS` knows are shown, in its order.
    """
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True)
    page = (files("ggf_cli.comparison.report") / "report.html").read_text(encoding="utf-8")
    shown = columns(comparison)
    blank = dict.fromkeys((column.key for column in shown), "")
    return environment.from_string(page).render(
        title=f"Which solver for {comparison['model']['name']}, and at which setting?",
        comparison={**comparison, "versions": {"ggf-cli": "", **comparison["versions"]}},
        columns=shown,
        lines=[
            {
                "texts": blank | dict(line.texts),
                "kind": line.kind,
                "status": line.status,
                "best": line.best,
                "starts": line.starts,
            }
            for line in lines(comparison)
        ],
        legend=" ".join(legend(comparison)),
        failures=list(failures(comparison)),
        pending=sum(cell["status"] == "pending" for cell in comparison["cells"]),
        figures=[_figure(name, images[name]) for name in CAPTIONS if name in images],
        settings=list(_settings(comparison)),
        cells=list(ordered(comparison)),
    )


def _figure(name: str, content: bytes) -> dict[str, Any]:
    """A PNG file as the template shows it; its size is in the header (bytes 16 to 23)."""
    alt, caption = CAPTIONS[name]
    return {
        "source": f"data:image/png;base64,{base64.b64encode(content).decode()}",
        "alt": alt,
        "caption": caption,
        "width": int.from_bytes(content[16:20]) // _DPR,
        "height": int.from_bytes(content[20:24]) // _DPR,
    }


def _settings(comparison: Comparison) -> Iterator[tuple[str, str]]:
    model = comparison["model"]
    size = f" · {model['parameters']:,} parameters" if model["parameters"] else ""
    exact = " · exact score" if model["exact"] else ""
    yield "model", f"{model['name']} · {'×'.join(map(str, model['shape']))}{size}{exact}"
    if model["source"]:
        yield "weights", f"{model['source']} · sha256 {(model['sha256'] or 'unknown')[:16]}"
    sde = {k: v for k, v in model["sde"].items() if k not in ("name", "data_range")}
    yield "SDE", " · ".join([SDE_TITLES[model["sde"]["name"]], *(f"{k} {v}" for k, v in sde.items())])  # fmt: skip
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
    yield from version_facts(comparison["versions"])
