"""Remove control characters from untrusted text before printing it."""

from __future__ import annotations


def plain(text: object, *, lines: bool = False) -> str:
    """Replace the control characters of a text from a file or a name that is not trusted.

    Args:
        text: A text, or an object to convert to one.
        lines: Keep line breaks.
    """
    return "".join(c if c.isprintable() or (lines and c == "\n") else "\ufffd" for c in str(text))


def shortened(value: object) -> str:
    """The repr of a value of any length, cut to 60 characters."""
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:60]}…"
