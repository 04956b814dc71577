"""Options of `ggf sample` as types for Typer, and the parsing of their values."""

from __future__ import annotations

import re
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from ggf_cli.checkpoints.manifest import read_manifest
from ggf_cli.errors import UsageError
from ggf_cli.scalars import MAX_INT, shown
from ggf_cli.solvers import SOLVERS

_SOLVER = "Solver"
_OUTPUT = "Output"
_RUN = "Run"

MAX_SAMPLES = 10_000_000
MAX_LABEL_DIGITS = 6


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
        help="End time of the solve, above 0 and below T (1, but for edm and own SDEs).",
        show_default="from the model",
        rich_help_panel=_SOLVER,
    ),
]
MaxNFE = Annotated[
    int | None,
    typer.Option(
        "--max-nfe",
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
        min=1,
        help="Draw K samples, then use their mean step times for all; recorded as --times.",
        rich_help_panel="Solver adaptive-multistep",
    ),
]
NumSamples = Annotated[
    int | None,
    typer.Option(
        "--n", "-n", help="Draw samples 0 to N-1.", show_default="16", rich_help_panel=_RUN
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
Seed = Annotated[int, typer.Option("--seed", help="Random seed.", rich_help_panel=_RUN)]
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
        help="Draw the samples on the grid at K noise levels: strips and an animated WebP.",
        rich_help_panel=_OUTPUT,
    ),
]
FormatOption = Annotated[
    Format, typer.Option("--format", help="How to store samples.", rich_help_panel=_OUTPUT)
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


def parse_indices(text: str) -> list[int]:
    """Parse --indices: "0-3,70" -> [0, 1, 2, 3, 70], in that order.

    Raises:
        UsageError: Not a list of numbers and ranges, an index twice or too large, or too many.
    """
    indices: list[int] = []
    for part in text.split(","):
        ends = _range(part)
        if ends is None:
            raise UsageError(
                f"--indices {shown(text)}: {shown(part)} is not a number or a range",
                hint="like 0-63,70",
            )
        first, last = map(_index, ends)
        if last < first:
            raise UsageError(
                f"--indices {shown(text)}: the range {shown(part)} runs backwards",
                hint="like 0-63,70",
            )
        if len(indices) + last - first >= MAX_SAMPLES:
            raise UsageError(f"--indices {shown(text)} names more than {MAX_SAMPLES:,} samples")
        indices.extend(range(first, last + 1))
    if len(set(indices)) != len(indices):
        raise UsageError(f"--indices {shown(text)} names a sample twice")
    return indices


def _range(part: str) -> tuple[str, str] | None:
    """The digits of both ends of "3" or "0-63"; None for other text."""
    match = re.fullmatch(r"\s*([0-9]+)\s*(?:-\s*([0-9]+)\s*)?", part)
    return (match[1], match[2] or match[1]) if match else None


def _index(digits: str) -> int:
    """Convert digits to an index. Python refuses to convert more than 4300 digits."""
    index = int(digits.lstrip("0")[:20] or "0")
    if index > MAX_INT:
        raise UsageError(f"--indices names {shown(digits)}, the largest index is {MAX_INT}")
    return index


def parse_count(n: int) -> list[int]:
    """Parse --n: the sample indices 0 .. n - 1."""
    if not 1 <= n <= MAX_SAMPLES:
        raise UsageError(f"--n is {n}, it must lie in 1..{MAX_SAMPLES:,}")
    return list(range(n))


def parse_batch_size(text: str) -> int | None:
    """Parse --batch-size; "auto" -> None."""
    if text == "auto":
        return None
    if not re.fullmatch("[0-9]{1,18}", text) or int(text) < 1:
        raise UsageError(f"--batch-size is {shown(text)}, it must be 'auto' or lie in 1..2^20")
    return int(text)


def parse_labels(text: str) -> list[int]:
    """Parse --label: "0-2,7" -> [0, 1, 2, 7].

    Raises:
        UsageError: Not a list of numbers and ranges.
    """
    labels: list[int] = []
    for part in text.split(","):
        ends = _range(part)
        if ends is None or max(map(len, ends)) > MAX_LABEL_DIGITS or int(ends[1]) < int(ends[0]):
            raise UsageError(f"--label is {shown(text)}, it must be labels", hint="like 3 or 0-9")
        labels.extend(range(int(ends[0]), int(ends[1]) + 1))
    return labels


def parse_interval(text: str | None) -> tuple[float, float] | None:
    """Parse --guidance-interval: "0.3,5" -> (0.3, 5.0).

    Raises:
        UsageError: Not two numbers.
    """
    if text is None:
        return None
    try:
        low, high = map(float, text.split(","))
    except ValueError as error:
        raise UsageError(
            f"--guidance-interval is {shown(text)}, it must be two noise levels", hint="like 0.3,5"
        ) from error
    return low, high


def parse_grid(text: str | None) -> tuple[int, int] | None:
    """Parse --grid: "2x8" -> (2, 8)."""
    if text is None:
        return None
    match = re.fullmatch(r"([0-9]{1,3})[xX×]([0-9]{1,3})", text)
    if not match or "0" in (match[1], match[2]):
        raise UsageError(f"--grid is {text!r}, it must be ROWSxCOLS", hint="like 4x4")
    return int(match[1]), int(match[2])
