"""Options that only `ggf compare` has, as types for Typer."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ggf_cli.cli.values import folder, whole
from ggf_cli.comparison import analysis
from ggf_cli.comparison.lineup import DEFAULT, EPS_REL
from ggf_cli.comparison.presets import PRESETS
from ggf_cli.comparison.request import REPEATS
from ggf_cli.metrics.registry import METRICS

BUDGET = "10m"
MARGIN = f"{analysis.MARGIN:.0%}"
_SETTINGS, _SIZE, _QUALITY = "Solvers and settings", "Number of samples", "Quality"
_PRESETS = "; ".join(f"{name}, {preset.summary}" for name, preset in PRESETS.items())

Solvers = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="SOLVER[:OPTION=VALUE,...]...",
        help="Solvers of `ggf list-solvers`, with options: adaptive:norm=linf, em:steps=500.",
        show_default=" ".join(DEFAULT),
    ),
]
EpsRel = Annotated[
    str | None,
    typer.Option(
        "--eps-rel",
        metavar="LIST",
        help="Tolerances of adaptive stochastic solvers.",
        show_default=",".join(map(str, EPS_REL)),
        rich_help_panel=_SETTINGS,
    ),
]
Nfe = Annotated[
    str,
    typer.Option(
        "--nfe",
        metavar="match|default|LIST",
        help="NFE of fixed-step solvers; match: the NFE of each tolerance, beside em with 1000 "
        "steps; default: the solver's own.",
        rich_help_panel=_SETTINGS,
    ),
]
Baseline = Annotated[
    bool,
    typer.Option(
        "--baseline/--no-baseline",
        help="Add em with 1000 steps, unless --nfe is a list.",
        rich_help_panel=_SETTINGS,
    ),
]
PresetName = Annotated[
    str | None,
    typer.Option(
        "--preset",
        metavar="NAME",
        help=f"Repeat a published table, beside its numbers: {_PRESETS}.",
        rich_help_panel=_SETTINGS,
    ),
]
NumSamples = Annotated[
    int | None,
    typer.Option(
        "--n",
        "-n",
        metavar="N",
        parser=whole("--n"),
        help="Samples of each repeat.",
        show_default="as many as --budget allows",
        rich_help_panel=_SIZE,
    ),
]
Budget = Annotated[
    str | None,
    typer.Option(
        "--budget",
        metavar="TIME",
        help="Time of the whole command, like 90s, 5min or 1h30m: chooses --n, and leaves out "
        "em with 1000 steps and then settings if necessary.",
        show_default=BUDGET,
        rich_help_panel=_SIZE,
    ),
]
Yes = Annotated[
    bool,
    typer.Option(
        "--yes",
        "-y",
        help="Draw the fewest samples even if they take longer than --budget.",
        rich_help_panel=_SIZE,
    ),
]
Repeats = Annotated[
    int | None,
    typer.Option(
        "--repeats",
        metavar="N",
        parser=whole("--repeats"),
        help="Repeats of each setting, with different samples: they give the error bars.",
        show_default=str(REPEATS),
        rich_help_panel=_SIZE,
    ),
]
Metric = Annotated[
    str | None,
    typer.Option(
        "--metric",
        metavar="LIST",
        help=f"Metrics; the first one decides: {', '.join(METRICS)}.",
        show_default="those that the model has a reference for",
        rich_help_panel=_QUALITY,
    ),
]
Reference = Annotated[
    Path | None,
    typer.Option(
        "--reference",
        metavar="DIR|NPZ",
        help="Real images or Inception statistics (needs the extra `fid`), or samples x in a .npz.",
        rich_help_panel=_QUALITY,
    ),
]
Margin = Annotated[
    str,
    typer.Option(
        "--margin",
        metavar="SHARE",
        help="How much worse than the reference a recommended setting may be.",
        rich_help_panel=_QUALITY,
    ),
]
Out = Annotated[
    Path | None,
    typer.Option(
        "--out",
        "-o",
        metavar="DIR",
        parser=folder,
        help="Output folder; a comparison with the same settings in it is continued.",
        show_default="runs/compare-MODEL-…, the same for the same settings",
        rich_help_panel="Output",
    ),
]
Json = Annotated[
    bool,
    typer.Option("--json", help="Print compare.json instead of a table.", rich_help_panel="Output"),
]
