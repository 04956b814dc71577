"""Text for people: numbers, and untrusted text without control characters."""

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


def per_second(rate: float) -> str:
    """Format a rate: 373, 4.2, 0.042."""
    return f"{rate:.0f}" if rate >= 10 else f"{rate:.2g}"


def time_left(seconds: float) -> str:
    """Format a remaining time: "~0:42 left", "~1:05:00 left"."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    clock = f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
    return f"~{clock} left"
