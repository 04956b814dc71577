"""Draw a histogram of integers as text."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

_EIGHTHS = " ▏▎▍▌▋▊▉█"


def histogram(
    values: Sequence[int], *, width: int = 40, max_rows: int = 10, plain: bool = False
) -> list[str]:
    """Draw a histogram, one line for each bin: its range, a bar, its count.

    All bins have one size, which is 1, 2 or 5 times a power of ten, and start at multiples of it.
    Empty bins between others are shown. A bin that is not empty has a bar, however short.

    Args:
        values: The integers, each >= 0.
        width: Characters of the longest bar, >= 1.
        max_rows: The largest number of bins, >= 2.
        plain: ASCII only.

    Returns:
        The lines, lowest values first; none for no values.
    """
    if not values:
        return []
    size = _bin_size(min(values), max(values), max_rows)
    counts = Counter(value // size for value in values)
    peak = max(counts.values())
    digits = len(str((max(counts) + 1) * size - 1))
    lines = []
    for place in range(min(counts), max(counts) + 1):
        label = f"{place * size:>{digits}}"
        if size > 1:
            label += f"{'-' if plain else '–'}{(place + 1) * size - 1:>{digits}}"
        bar = _bar(counts[place], peak, width, plain)
        lines.append(f"{label}  {bar} {counts[place]}" if bar else f"{label}  0")
    return lines


def _bin_size(low: int, high: int, max_rows: int) -> int:
    """The smallest round size with at most `max_rows` bins."""
    power = 1
    while True:
        for size in (power, 2 * power, 5 * power):
            if high // size - low // size < max_rows:
                return size
        power *= 10


def _bar(count: int, peak: int, width: int, plain: bool) -> str:
    """The bar of a bin; `peak` has `width` characters. Resolution: 1/8 character unless `plain`."""
    parts = 1 if plain else 8
    length = max(-(-count // peak), (2 * parts * width * count + peak) // (2 * peak))
    whole, rest = divmod(length, parts)
    return "#" * whole if plain else "█" * whole + _EIGHTHS[rest].strip()
