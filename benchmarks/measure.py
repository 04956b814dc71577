"""Measuring side by side, and what a measurement is."""

import gc
import statistics
from collections.abc import Callable
from dataclasses import asdict, dataclass
from time import perf_counter
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Skipped:
    """A row that cannot be measured here."""

    what: str
    why: str


@dataclass(frozen=True, kw_only=True)
class Row:
    """One comparison.

    Attributes:
        suite: Its suite.
        what: What was measured.
        unit: Of the numbers, as "s" or "rows".
        ours: One number a run.
        theirs: The same of what it is compared with, run by run; empty where there is nothing.
        note: What must be said.
    """

    suite: str
    what: str
    unit: str
    ours: list[float]
    theirs: list[float]
    note: str = ""

    @property
    def ratio(self) -> float | None:
        """Median over the runs of ours ÷ theirs."""
        pairs = list(zip(self.ours, self.theirs, strict=False))
        return statistics.median(a / b for a, b in pairs) if pairs else None

    def say(self, values: list[float]) -> str:
        """ "1.23 s (1.20–1.31)": median and quartiles."""
        if not values:
            return ""
        low, middle, high = quartiles(values)
        spread = f" ({low:.3g}–{high:.3g})" if len(values) > 1 else ""
        return f"{middle:.3g} {self.unit}{spread}".replace(" %", "%")

    def text(self) -> str:
        """The row as a sentence."""
        other = f", other {self.say(self.theirs)}, ratio {self.ratio:.3g}" if self.theirs else ""
        return self.say(self.ours) + other + (f" [{self.note}]" if self.note else "")

    def document(self) -> dict[str, Any]:
        """As JSON data."""
        return asdict(self) | {"ratio": self.ratio}


def quartiles(values: list[float]) -> tuple[float, float, float]:
    """25 %, 50 %, 75 %."""
    if len(values) == 1:
        return values[0], values[0], values[0]
    low, middle, high = statistics.quantiles(values, n=4, method="inclusive")
    return low, middle, high


def interleaved(functions: dict[str, Callable[[], Any]], runs: int) -> dict[str, list[float]]:
    """Seconds of each call, in turn; every function is called once before."""
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
