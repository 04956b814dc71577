"""Text from strangers on a terminal."""

from __future__ import annotations


def plain(text: object, *, lines: bool = False) -> str:
    """Without the control characters that a file or a name from strangers may hold.

    Args:
        text: Anything with words.
        lines: Whether ends of lines may stay.
    """
    return "".join(c if c.isprintable() or (lines and c == "\n") else "\ufffd" for c in str(text))


def shortened(value: object) -> str:
    """The repr of a value of any length, cut to 60 characters."""
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:60]}…"
