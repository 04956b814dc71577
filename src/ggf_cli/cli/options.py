"""The types of the command line's options, and the parsing of those that are more than a number."""

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
        metavar="NAME|PATH",
        help="A name from `ggf list-models`, or a checkpoint.",
        autocompletion=lambda: list(read_manifest()),
    ),
]
Config = Annotated[
    str | None,
    typer.Option(
        "--config",
        metavar="NAME|KEY=VALUE,...",
        help="What a .pth file does not state: the model of `ggf list-models` that it is, or settings of its training.",
        show_default=False,
    ),
]
Solver = Annotated[
    str,
    typer.Option(
        "--solver", "-s", metavar="SOLVER", help="One of `ggf list-solvers`.",
        autocompletion=lambda: list(SOLVERS),
        rich_help_panel=_SOLVER,
    ),
]  # fmt: skip
TEps = Annotated[
    float | None,
    typer.Option(
        "--t-eps", help="End time of the solve, in (0, 1).", show_default="from the model",
        rich_help_panel=_SOLVER,
    ),
]  # fmt: skip
MaxNFE = Annotated[
    int | None,
    typer.Option(
        "--max-nfe", help="Give a sample up after this many evaluations.", show_default="what the solver needs if it knows, else 10000",
        rich_help_panel=_SOLVER,
    ),
]  # fmt: skip
Pilot = Annotated[
    int | None,
    typer.Option(
        "--pilot", metavar="K", min=1, help="Freeze the mean steps of K samples for all; recorded as --times.",
        rich_help_panel="Solver adaptive-multistep",
    ),
]  # fmt: skip
NumSamples = Annotated[
    int | None,
    typer.Option(
        "--n", "-n", help="Draw samples 0 to N-1.", show_default="16", rich_help_panel=_RUN
    ),
]
Indices = Annotated[
    str | None,
    typer.Option(
        "--indices", metavar="LIST", help="Draw these samples: 0-63,70.", rich_help_panel=_RUN
    ),
]
Seed = Annotated[int, typer.Option("--seed", help="Which family of samples.", rich_help_panel=_RUN)]
BatchSize = Annotated[
    str,
    typer.Option(
        "--batch-size",
        "-b",
        metavar="N|auto",
        help="Rows per network call; halved when memory runs out.",
        rich_help_panel=_RUN,
    ),
]
Device = Annotated[
    str,
    typer.Option(
        "--device", metavar="auto|cpu|cuda|mps", help="Where to run.", rich_help_panel=_RUN
    ),
]
Precision = Annotated[
    str,
    typer.Option(
        "--precision", metavar="auto|fp32|tf32|bf16|fp16", help="Of the network; auto: bf16 where it is fast and agrees.",
        rich_help_panel=_RUN,
    ),
]  # fmt: skip
Compile = Annotated[
    bool,
    typer.Option(
        "--compile/--no-compile", help="Compile the network: a minute once, then each evaluation is cheaper.", rich_help_panel=_RUN
    ),
]  # fmt: skip
Out = Annotated[
    Path | None,
    typer.Option(
        "--out", "-o", metavar="DIR", help="Output folder.", show_default="runs/TIME-MODEL-SOLVER",
        rich_help_panel=_OUTPUT,
    ),
]  # fmt: skip
Grid = Annotated[
    str | None,
    typer.Option(
        "--grid", metavar="ROWSxCOLS", help="Size of the grid.", show_default="near-square, 64 at most",
        rich_help_panel=_OUTPUT,
    ),
]  # fmt: skip
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
        help="Go on with the run in the folder, if there is one.",
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
    """ "0-3,70" -> [0, 1, 2, 3, 70], in that order.

    Raises:
        UsageError: Not a list of numbers and ranges, an index twice, too large, or too many of them.
    """
    indices: list[int] = []
    for part in text.split(","):
        match = re.fullmatch(r"\s*([0-9]+)\s*(?:-\s*([0-9]+)\s*)?", part)
        if not match:
            raise UsageError(
                f"--indices {shown(text)}: {shown(part)} is not a number or a range",
                hint="like 0-63,70",
            )
        first, last = _index(match[1]), _index(match[2] or match[1])
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


def _index(digits: str) -> int:
    """An index from its digits, of which there may be more than Python makes an int of."""
    index = int(digits.lstrip("0")[:20] or "0")
    if index > MAX_INT:
        raise UsageError(f"--indices names {shown(digits)}, the largest index is {MAX_INT}")
    return index


def parse_count(n: int) -> list[int]:
    """The indices that --n stands for."""
    if not 1 <= n <= MAX_SAMPLES:
        raise UsageError(f"--n is {n}, it must lie in 1..{MAX_SAMPLES:,}")
    return list(range(n))


def parse_batch_size(text: str) -> int | None:
    """ "auto" -> None."""
    if text == "auto":
        return None
    if not re.fullmatch("[0-9]{1,18}", text) or int(text) < 1:
        raise UsageError(f"--batch-size is {shown(text)}, it must be 'auto' or lie in 1..2^20")
    return int(text)


def parse_grid(text: str | None) -> tuple[int, int] | None:
    """ "2x8" -> (2, 8)."""
    if text is None:
        return None
    match = re.fullmatch(r"([0-9]{1,3})[xX×]([0-9]{1,3})", text)
    if not match or "0" in (match[1], match[2]):
        raise UsageError(f"--grid is {text!r}, it must be ROWSxCOLS", hint="like 4x4")
    return int(match[1]), int(match[2])
