"""Durations as text: read a time budget, and format seconds."""

from __future__ import annotations

import re

from ggf_cli.errors import UsageError

MAX_SECONDS = 1e7
_NUMBER = r"\d+(?:\.\d*)?|\.\d+"
# The seconds of a unit, by the pattern of its name; in the order in which a duration has them.
_UNITS = {"h|hours?": 3600, "m|min|minutes?": 60, "s|sec|seconds?": 1}


def parse_duration(text: str) -> float:
    """Parse a duration, "90s", "5min", "1h30m" or "1.5h", in seconds.

    Raises:
        UsageError: The text is no duration, has no unit, or lies outside 1 s to 1e7 s.
    """
    words = text.strip().lower()
    if re.fullmatch(_NUMBER, words):
        raise UsageError(f"{text} of what? a time has a unit", hint=f"write {words}s or {words}min")
    found = re.fullmatch(r"\s*".join(f"(?:({_NUMBER})\\s*(?:{unit}))?" for unit in _UNITS), words)
    parts = [float(part or 0) for part in found.groups()] if found else [0.0]
    seconds = sum(part * unit for part, unit in zip(parts, _UNITS.values(), strict=False))
    if not 1 <= seconds <= MAX_SECONDS:
        raise UsageError(
            f"{text!r} is no time of 1 s or more" if seconds < 1 else f"{text!r} is too long",
            hint="write a time like 90s, 5min, 1h30m or 1.5h",
        )
    return seconds


def as_duration(seconds: float) -> str:
    """Format a duration: "4.2 s", "45 s", "3 min 20 s", "1 h 05 min"."""
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if not minutes:
        return f"{rest} s"
    if minutes < 60:
        return f"{minutes} min {rest:02} s" if rest else f"{minutes} min"
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours} h {minutes:02} min"
