"""Read numbers as people write them on a command line: 1e6, 1_000_000, 2%.

This module does not import torch.
"""

from __future__ import annotations

import re
from fractions import Fraction

from ggf_cli.errors import UsageError
from ggf_cli.scalars import shown

# Python refuses to convert more than 4300 digits, and 1e999999999 would fill the memory.
_NUMBER = r"([+-]?)([0-9_]{1,1000})(?:\.([0-9]{0,1000}))?(?:[eE]\+?([0-9]{1,2}))?"
_SUFFIXES = {"k": 1_000, "m": 1_000_000}


def read_whole(text: str, name: str) -> int:
    """Read a whole number: "1000", "1_000", "1e3" and "1.5e3", but not "1.5".

    Args:
        text: What the user wrote.
        name: The name of the option, for the message.

    Raises:
        UsageError: Not a whole number; the hint is the number in digits, if it is clear which one.
    """
    word = text.strip()
    if (value := _exactly(word)) is not None and value.denominator == 1:
        return value.numerator
    hint = "like 1000 or 1e3"
    suffix = _SUFFIXES.get(word[-1:].lower())
    plain = _exactly(word[:-1] if suffix else word.replace(",", ""))
    if plain is not None and (suffix or "," in word):
        meant = plain * (suffix or 1)
        if meant.denominator == 1 and abs(meant) < 10**15:
            hint = f"write {meant.numerator}"
    raise UsageError(f"{name} is {shown(text)}, it must be a whole number", hint=hint)


def read_real(text: str, name: str, *, share: bool = False) -> float:
    """Read a number: "0.02", "2e-2", and "2%" if it is a share.

    Args:
        text: What the user wrote.
        name: The name of the option, for the message.
        share: Whether a percentage has a meaning.

    Raises:
        UsageError: Not a number; the hint is the number that is meant, if that is clear.
    """
    word = text.strip()
    percent = word.endswith("%")
    digits = word[:-1].strip() if percent else word
    try:
        # The nearest float to the number that is written: 2% is 0.02, as if that were written.
        value = float(f"{digits}e-2") if percent and "e" not in digits.lower() else float(digits)
    except ValueError:
        pass
    else:
        if not percent:
            return value
        if "e" in digits.lower():
            value /= 100
        if share:
            return value
        raise UsageError(
            f"{name} is {shown(text)}, it is no share of something",
            hint=f"write {value:g} for {value * 100:g} hundredths",
        )
    hint = "like 0.02 or 2%" if share else "like 0.02 or 2e-2"
    swapped = digits.replace(",", ".")
    if re.fullmatch(r"[0-9]*\.[0-9]+", swapped) and digits.count(",") == 1:
        hint = f"write {swapped}"
    raise UsageError(f"{name} is {shown(text)}, it must be a number", hint=hint)


def _exactly(text: str) -> Fraction | None:
    """The number that a text in digits stands for; None for other text."""
    match = re.fullmatch(_NUMBER, text)
    if not match or not re.search("[0-9]", match[2]):
        return None
    sign, whole, part, exponent = match[1], match[2].replace("_", ""), match[3] or "", match[4]
    scale = Fraction(10) ** (int(exponent or 0) - len(part))
    return int(f"{sign}{whole}{part}") * Fraction(scale)
