"""Parse the values of options; each refusal names the option, the value and what is expected."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import TypeVar

from ggf_cli.errors import OutputError, UsageError
from ggf_cli.numerals import read_real, read_whole
from ggf_cli.registry import lookup
from ggf_cli.scalars import MAX_INT, shown

ChoiceT = TypeVar("ChoiceT", bound=StrEnum)

MAX_SAMPLES = 10_000_000
MAX_LABEL_DIGITS = 6
# Endings of names of files. A folder may have any name, but rarely one of these.
_FILES = ".png .jpg .jpeg .webp .gif .npz .npy .txt .json .csv .html .zip .pt .pth .safetensors"


def whole(flag: str) -> Callable[[str], int]:
    """A parser of a whole number: 1000, 1_000 or 1e3."""
    return lambda text: read_whole(str(text), flag)


def real(flag: str, *, share: bool = False) -> Callable[[str], float]:
    """A parser of a number: 0.02 or 2e-2, and 2% if it is a share."""
    return lambda text: read_real(str(text), flag, share=share)


def one_of(choices: type[ChoiceT], kind: str) -> Callable[[str], ChoiceT]:
    """A parser of one of the words of an enumeration.

    Args:
        choices: The enumeration.
        kind: The kind of word, for the message ("format").
    """
    words = {choice.value: choice for choice in choices}
    return lambda text: lookup(words, str(text), kind, f"{kind}s: {', '.join(words)}")


def folder(text: str) -> Path:
    """Parse --out: a folder, which need not exist.

    Raises:
        UsageError: An empty text, or the name of a file.
        OutputError: There is a file at the path.
    """
    path = Path(text)
    if not text.strip():
        raise UsageError("--out is empty, it must be a folder", hint="like --out runs/a")
    name = path.name or "run"
    free = shlex.quote(str(path.with_name(f"{path.stem}-run" if path.suffix else f"{name}-run")))
    if os.path.isfile(path):  # noqa: PTH113 - unlike `Path.is_file`, this never raises
        raise OutputError(
            f"cannot create the folder {path}: there is a file of this name",
            hint=f"give another place to write to, like --out {free}",
        )
    if path.suffix.lower() in _FILES.split() and not os.path.isdir(path):  # noqa: PTH112
        raise UsageError(
            f"--out is {shown(text)}, the name of a file; it must be a folder",
            hint=f"like --out {shlex.quote(str(path.with_suffix('')))}",
        )
    return path


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
