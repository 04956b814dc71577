"""Interleaved measurements, and the rows of their results."""

import gc
import statistics
from collections.abc import Callable
from dataclasses import asdict, dataclass
from time import perf_counter
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Skipped:
    """A row that cannot be measured on this machine, and the reason."""

    what: str
    why: str


@dataclass(frozen=True, kw_only=True)
class Row:
    """One measurement of ggf, beside an alternative.

    Attributes:
        suite: The suite.
        what: The quantity that is measured.
        unit: The unit of the numbers, such as "s" or "rows".
        ours: One number a run.
        theirs: The numbers of the alternative, run by run; empty without one.
        note: Conditions of the measurement.
    """

    suite: str
    what: str
    unit: str
    ours: list[float]
    theirs: list[float]
    note: str = ""

    @property
    def ratio(self) -> float | None:
        """Median of ours ÷ theirs over the runs."""
        pairs = list(zip(self.ours, self.theirs, strict=False))
        return statistics.median(a / b for a, b in pairs) if pairs else None

    def format(self, values: list[float]) -> str:
        """Format median and quartiles: "1.23 s (1.20–1.31)"."""
        if not values:
            return ""
        low, middle, high = quartiles(values)
        spread = f" ({low:.3g}–{high:.3g})" if len(values) > 1 else ""
        return f"{middle:.3g} {self.unit}{spread}".replace(" %", "%")

    def text(self) -> str:
        """Format the row as a line of text."""
        other = f", other {self.format(self.theirs)}, ratio {self.ratio:.3g}" if self.theirs else ""
        return self.format(self.ours) + other + (f" [{self.note}]" if self.note else "")

    def document(self) -> dict[str, Any]:
        """Return the row as JSON data."""
        return asdict(self) | {"ratio": self.ratio}


def quartiles(values: list[float]) -> tuple[float, float, float]:
    """Return the 25 %, 50 % and 75 % quantiles."""
    if len(values) == 1:
        return values[0], values[0], values[0]
    low, middle, high = statistics.quantiles(values, n=4, method="inclusive")
    return low, middle, high


def interleaved(functions: dict[str, Callable[[], Any]], runs: int) -> dict[str, list[float]]:
    """Time calls of several functions in turn, in seconds, after one call of each."""
    for function in functions.values():
        function()
    seconds: dict[str, list[float]] = {name: [] for name in functions}
    for _ in range(runs):
        for name, function in functions.items():
            gc.collect()
            start = perf_counter()
            function()
            seconds[name].append(perf_counter() - start)
    return seconds
