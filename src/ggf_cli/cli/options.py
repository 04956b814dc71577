"""Options of `ggf sample` as types for Typer."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from ggf_cli.checkpoints.manifest import read_manifest
from ggf_cli.cli.values import folder, one_of, real, whole
from ggf_cli.solvers import SOLVERS

_SOLVER = "Solver"
_OUTPUT = "Output"
_RUN = "Run"


class Format(StrEnum):
    """How samples are stored."""

    PNG = "png"
    NPZ = "npz"
    NONE = "none"


Model = Annotated[
    str,
    typer.Option(
        "--model",
        "-m",
        metavar="NAME|PATH|FILE.py:OBJECT",
        help="A name from `ggf list-models`, a checkpoint, or your own code, which is run.",
        autocompletion=lambda: list(read_manifest()),
    ),
]
Config = Annotated[
    str | None,
    typer.Option(
        "--config",
        metavar="NAME|KEY=VALUE,...",
        help="What a .pth or .pt file does not state: the name of a model, or settings.",
        show_default=False,
    ),
]
StateSDE = Annotated[
    str | None,
    typer.Option(
        "--sde",
        metavar="NAME[,KEY=VALUE,...]",
        help="The SDE of a file that does not state it: vp, or edm,sigma_max=50. Part of --config.",
        show_default=False,
    ),
]
ImageSize = Annotated[
    int | None,
    typer.Option(
        "--size",
        metavar="PIXELS",
        min=1,
        help="The size of the images of a file that does not state it. Part of --config.",
        show_default=False,
    ),
]
Solver = Annotated[
    str,
    typer.Option(
        "--solver",
        "-s",
        metavar="SOLVER",
        help="One of `ggf list-solvers`.",
        autocompletion=lambda: list(SOLVERS),
        rich_help_panel=_SOLVER,
    ),
]
TEps = Annotated[
    float | None,
    typer.Option(
        "--t-eps",
        metavar="TIME",
        parser=real("--t-eps"),
        help="End time of the solve, above 0 and below T (1, but for edm and own SDEs).",
        show_default="from the model",
        rich_help_panel=_SOLVER,
    ),
]
MaxNFE = Annotated[
    int | None,
    typer.Option(
        "--max-nfe",
        metavar="N",
        parser=whole("--max-nfe"),
        help="Give a sample up after this many evaluations.",
        show_default="no limit for fixed steps, else 10000",
        rich_help_panel=_SOLVER,
    ),
]
Pilot = Annotated[
    int | None,
    typer.Option(
        "--pilot",
        metavar="K",
        parser=whole("--pilot"),
        help="adaptive-multistep: draw K samples, then use their mean step times for all; recorded "
        "as --times.",
        rich_help_panel=_SOLVER,
    ),
]
NumSamples = Annotated[
    int | None,
    typer.Option(
        "--n",
        "-n",
        metavar="N",
        parser=whole("--n"),
        help="Draw samples 0 to N-1.",
        show_default="16",
        rich_help_panel=_RUN,
    ),
]
Indices = Annotated[
    str | None,
    typer.Option(
        "--indices",
        metavar="LIST",
        help="Draw these samples: 0-63,70.",
        rich_help_panel=_RUN,
    ),
]
Label = Annotated[
    str | None,
    typer.Option(
        "--label",
        metavar="LIST",
        help="Class labels of a conditional model, repeated over the sample indices: 3, or 0-9.",
        rich_help_panel=_RUN,
    ),
]
Guidance = Annotated[
    float | None,
    typer.Option(
        "--guidance",
        metavar="SCALE",
        parser=real("--guidance"),
        help="Guidance by the labels; 1 has no effect. A guided evaluation counts as two.",
        show_default="1",
        rich_help_panel=_RUN,
    ),
]
GuidanceInterval = Annotated[
    str | None,
    typer.Option(
        "--guidance-interval",
        metavar="LOW,HIGH",
        help="Noise levels sigma / alpha with guidance.",
        show_default="all",
        rich_help_panel=_RUN,
    ),
]
Seed = Annotated[
    int,
    typer.Option(
        "--seed",
        metavar="S",
        parser=whole("--seed"),
        help="Random seed.",
        rich_help_panel=_RUN,
    ),
]
BatchSize = Annotated[
    str,
    typer.Option(
        "--batch-size",
        "-b",
        metavar="N|auto",
        help="Samples evaluated together; halved when memory runs out.",
        rich_help_panel=_RUN,
    ),
]
Device = Annotated[
    str,
    typer.Option(
        "--device",
        metavar="auto|cpu|cuda|mps",
        help="Device of the network.",
        rich_help_panel=_RUN,
    ),
]
Precision = Annotated[
    str,
    typer.Option(
        "--precision",
        metavar="auto|fp32|tf32|bf16|fp16",
        help="Precision of the network; auto: bf16 where it is fast and agrees with fp32.",
        rich_help_panel=_RUN,
    ),
]
Compile = Annotated[
    bool,
    typer.Option(
        "--compile/--no-compile",
        help="Compile the network: takes about a minute, then each evaluation is faster.",
        rich_help_panel=_RUN,
    ),
]
Out = Annotated[
    Path | None,
    typer.Option(
        "--out",
        "-o",
        metavar="DIR",
        parser=folder,
        help="Output folder.",
        show_default="runs/TIME-MODEL-SOLVER",
        rich_help_panel=_OUTPUT,
    ),
]
Grid = Annotated[
    str | None,
    typer.Option(
        "--grid",
        metavar="ROWSxCOLS",
        help="Size of the grid of images or signals.",
        show_default="near-square, 64 at most",
        rich_help_panel=_OUTPUT,
    ),
]
Trajectory = Annotated[
    int | None,
    typer.Option(
        "--trajectory",
        metavar="K",
        parser=whole("--trajectory"),
        help="Draw the samples on the grid at K noise levels: strips and an animated WebP.",
        rich_help_panel=_OUTPUT,
    ),
]
FormatOption = Annotated[
    Format,
    typer.Option(
        "--format",
        metavar="|".join(Format),
        parser=one_of(Format, "format"),
        help="How to store samples.",
        rich_help_panel=_OUTPUT,
    ),
]
Quiet = Annotated[
    bool,
    typer.Option("--quiet", "-q", help="Print the output folder only.", rich_help_panel=_OUTPUT),
]
Json = Annotated[
    bool,
    typer.Option("--json", help="Print run.json instead of a summary.", rich_help_panel=_OUTPUT),
]
Resume = Annotated[
    bool,
    typer.Option(
        "--resume",
        help="Continue the run in the folder, if there is one.",
        rich_help_panel=_OUTPUT,
    ),
]
Force = Annotated[
    bool,
    typer.Option(
        "--force",
        "-f",
        help="Replace the run in a folder that is not empty.",
        rich_help_panel=_OUTPUT,
    ),
]
