"""The types of the options of `ggf compare` that no other command has."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ggf_cli.comparison.lineup import DEFAULT, EPS_REL
from ggf_cli.comparison.presets import PRESETS
from ggf_cli.comparison.request import REPEATS
from ggf_cli.metrics.registry import METRICS

BUDGET = "10m"
_WHAT, _HOW, _QUALITY = "What is compared", "How much", "Quality"

Solvers = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="SOLVER[:OPTION=VALUE,...]...",
        help="One of `ggf list-solvers`, with options of its own if you like: adaptive:norm=linf, em:steps=500.",
        show_default=" ".join(DEFAULT),
    ),
]
EpsRel = Annotated[
    str | None,
    typer.Option(
        "--eps-rel", metavar="LIST", help="Tolerances of adaptive stochastic solvers.", rich_help_panel=_WHAT,
        show_default=",".join(map(str, EPS_REL)),
    ),
]  # fmt: skip
Nfe = Annotated[
    str,
    typer.Option(
        "--nfe", metavar="match|default|LIST", rich_help_panel=_WHAT,
        help="Budgets of fixed-step solvers; match: what each tolerance took, beside em with 1000 steps; default: their own.",
    ),
]  # fmt: skip
PresetName = Annotated[
    str | None,
    typer.Option(
        "--preset", metavar="NAME", rich_help_panel=_WHAT,
        help="A table of the paper beside its numbers: " + "; ".join(f"{k}, {p.summary}" for k, p in PRESETS.items()) + ".",
    ),
]  # fmt: skip
NumSamples = Annotated[
    int | None,
    typer.Option(
        "--n", "-n", help="Samples a repeat.", show_default="what the budget affords", rich_help_panel=_HOW
    ),
]  # fmt: skip
Budget = Annotated[
    str | None,
    typer.Option(
        "--budget", metavar="TIME", help="Time to draw in, like 90s, 10m or 2h: chooses --n, and settings if it must.",
        show_default=BUDGET, rich_help_panel=_HOW,
    ),
]  # fmt: skip
Repeats = Annotated[
    int | None,
    typer.Option(
        "--repeats", help="Each with samples of its own: the error bars.", show_default=str(REPEATS), rich_help_panel=_HOW
    ),
]  # fmt: skip
Metric = Annotated[
    str | None,
    typer.Option(
        "--metric", metavar="LIST", help=f"The first one decides: {', '.join(METRICS)}.",
        show_default="what the model has a reference for", rich_help_panel=_QUALITY,
    ),
]  # fmt: skip
Reference = Annotated[
    Path | None,
    typer.Option(
        "--reference", metavar="DIR|NPZ", rich_help_panel=_QUALITY,
        help="Real images, or their Inception statistics, for fid and kid (needs ggf-cli[fid]).",
    ),
]  # fmt: skip
Out = Annotated[
    Path | None,
    typer.Option(
        "--out", "-o", metavar="DIR", help="Output folder; one that has the same comparison is continued.",
        show_default="runs/compare-MODEL-…, the same for the same words", rich_help_panel="Output",
    ),
]  # fmt: skip
Json = Annotated[
    bool,
    typer.Option("--json", help="Print compare.json instead of a table.", rich_help_panel="Output"),
]
