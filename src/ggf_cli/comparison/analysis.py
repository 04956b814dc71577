"""Analysis of a comparison: significant differences, best and recommended settings.

The value of a metric comes with groups: numbers that belong to a few samples each and whose mean is
the value (`ggf_cli.metrics.evaluator.Evaluator.groups`). A group has the same sample indices in
every cell, so the same prior noise. Two cells are compared by the paired differences of their
groups: Student's t, two-sided, at 95 %. A metric without an influence function has one group a
repeat; with one repeat no difference is significant.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

# A setting is recommended if its mean is within this share of the best mean.
WITHIN = 0.05
# Student's t, 97.5 %, by degrees of freedom. Between two entries the smaller degrees are used: the
# interval is then too wide, never too narrow.
T_975 = {
    1: 12.706, 2: 4.303, 3: 3.182, 4: 2.776, 5: 2.571, 6: 2.447, 7: 2.365, 8: 2.306, 9: 2.262,
    10: 2.228, 15: 2.131, 19: 2.093, 30: 2.042, 39: 2.023, 59: 2.001, 79: 1.990, 119: 1.980,
}  # fmt: skip

# A cell of compare.json.
Cell = Mapping[str, Any]


def summarise(values: Sequence[float], groups: Sequence[float] | None = None) -> dict[str, Any]:
    """Compute the mean and the standard error of a metric.

    Args:
        values: The value of each repeat.
        groups: The numbers of all groups of all repeats; None: the values.

    Returns:
        {"values", "groups", "mean", "se"}; the standard error is None for a single group.
    """
    groups = values if groups is None else groups
    se = statistics.stdev(groups) / math.sqrt(len(groups)) if len(groups) > 1 else None
    return {
        "values": list(values),
        "groups": list(groups),
        "mean": statistics.fmean(values),
        "se": se,
    }


def difference(a: Sequence[float], b: Sequence[float]) -> tuple[float, float | None]:
    """Compute the mean of a - b over common groups and the half-width of its 95 % interval.

    The half-width is None for a single group.
    """
    pairs = [x - y for x, y in zip(a, b, strict=False)]
    mean = statistics.fmean(pairs)
    if len(pairs) < 2:
        return mean, None
    freedom = max(k for k in T_975 if k <= len(pairs) - 1)
    return mean, T_975[freedom] * statistics.stdev(pairs) / math.sqrt(len(pairs))


def is_significant(a: Sequence[float], b: Sequence[float]) -> bool:
    """Check whether the groups of two cells differ significantly, at 95 %."""
    mean, half = difference(a, b)
    return half is not None and abs(mean) > half


class Analysis:
    """Analysis of the cells of a comparison by its first metric.

    Args:
        metric: The metric, as in compare.json: {"name", "title", "lower_is_better", "digits"}.
        cells: The cells, as in compare.json; those without a value of the metric are left out.
        n: The number of samples of one repeat.
    """

    def __init__(self, metric: Mapping[str, Any], cells: Sequence[Cell], n: int) -> None:
        self._metric, self._n = metric, n
        self._cells = [cell for cell in cells if metric["name"] in cell["quality"]]

    def best(self) -> str | None:
        """Return the id of the cell with the best mean."""
        return min(self._cells, key=self._loss)["id"] if self._cells else None

    def indistinguishable(self) -> set[str]:
        """Return the ids of the other cells without a significant difference from the best."""
        best = self._find(self.best())
        if best is None:
            return set()
        return {cell["id"] for cell in self._cells if not self._differ(cell, best)} - {best["id"]}

    def recommendation(self) -> dict[str, Any] | None:
        """Return the cheapest setting with a mean within 5 % of the best: overall, and by series.

        None without cells.
        """
        if not self._cells:
            return None
        overall = self._cheapest(self._cells)
        series = dict.fromkeys(cell["series"] for cell in self._cells)
        by_series = {
            name: self._cheapest([c for c in self._cells if c["series"] == name])["id"]
            for name in series
        }
        best = self._find(self.best())
        assert best is not None
        text = f"{overall['label']}: {self._format(overall)} at {overall['nfe']['mean']:.0f} NFE"
        if overall is not best:
            text += f", the cheapest within 5 % of the best ({best['label']}: {self._format(best)})"
            if best["nfe"]["mean"] > overall["nfe"]["mean"]:
                ratio = best["nfe"]["mean"] / overall["nfe"]["mean"]
                text += f", which takes {ratio:.1f} times as many"
        return {
            "overall": overall["id"],
            "by_series": by_series,
            "within": WITHIN,
            "text": f"{text}.",
        }

    def findings(self) -> list[str]:
        """Compare each matched pair, and each adaptive series with the reference, in a sentence."""
        found = []
        for cell in self._cells:
            if cell["role"] == "matched" and (adaptive := self._find(cell["matches"])):
                found.append(self._compare_pair(adaptive, cell))
        reference = next((c for c in self._cells if c["role"] == "reference"), None)
        if reference is None:
            return found
        for series in dict.fromkeys(c["series"] for c in self._cells if c["adaptive"]):
            found.append(self._compare_series(series, reference))
        return found

    def _compare_pair(self, a: Cell, b: Cell) -> str:
        """Compare two cells of the same NFE."""
        mean, half = difference(self._groups(a), self._groups(b))
        values = f"{self._metric['title']} {self._format(a)} and {self._format(b)}"
        if half is None:
            return (
                f"At the same NFE, {a['label']} and {b['label']} have {values};"
                " no error bar: use --repeats."
            )
        digits = self._metric["digits"]
        details = (
            f"{values}, difference {mean:+.{digits}f}, 95 % confidence interval"
            f" {mean - half:+.{digits}f} to {mean + half:+.{digits}f}"
        )
        if abs(mean) <= half:
            return (
                f"At the same NFE, no significant difference between {a['label']} and"
                f" {b['label']} was found (n = {self._samples(a, b):,}): {details}."
            )
        verb = "is better" if (mean < 0) == self._metric["lower_is_better"] else "is worse"
        return f"At the same NFE, {a['label']} {verb} than {b['label']}: {details}."

    def _compare_series(self, series: str, reference: Cell) -> str:
        """Compare the cheapest setting of a series that is as good as the reference with it."""
        cells = sorted(
            (c for c in self._cells if c["series"] == series), key=lambda c: c["nfe"]["mean"]
        )
        # With large errors a difference is rarely significant: a close mean is better evidence.
        equal = [c for c in cells if self._is_close(c, reference)] or [
            c for c in cells if not self._differ(c, reference)
        ]
        if not equal:
            return (
                f"No setting of {series} reaches {reference['label']}"
                f" ({self._metric['title']} {self._format(reference)}) here."
            )
        cell = equal[0]
        times = reference["nfe"]["mean"] / cell["nfe"]["mean"]
        values = f"{self._metric['title']} {self._format(cell)} and {self._format(reference)}"
        significant, close = self._differ(cell, reference), self._is_close(cell, reference)
        if not significant and not close:
            return (
                f"{cell['label']}: no significant difference from {reference['label']} was found"
                f" (n = {self._samples(cell, reference):,}), with {times:.1f} times fewer"
                f" evaluations: {values}."
            )
        relation = "is within 5 % of" if significant else "is as good as"
        if significant and self._loss(cell) < self._loss(reference):
            relation = "is better than"
        return (
            f"{cell['label']} {relation} {reference['label']}, with {times:.1f} times fewer"
            f" evaluations: {values}."
        )

    def _cheapest(self, cells: Sequence[Cell]) -> Cell:
        """The cell with the fewest evaluations within 5 % of the best of these."""
        best = min(cells, key=self._loss)
        return min(
            (c for c in cells if self._is_close(c, best)), key=lambda cell: cell["nfe"]["mean"]
        )

    def _differ(self, a: Cell, b: Cell) -> bool:
        return is_significant(self._groups(a), self._groups(b))

    def _is_close(self, cell: Cell, other: Cell) -> bool:
        """Whether the mean of `cell` is better than that of `other`, or worse by at most 5 %."""
        return self._loss(cell) <= self._loss(other) + WITHIN * abs(self._loss(other))

    def _loss(self, cell: Cell) -> float:
        """The mean, with the sign that makes lower values better."""
        mean: float = cell["quality"][self._metric["name"]]["mean"]
        return mean if self._metric["lower_is_better"] else -mean

    def _groups(self, cell: Cell) -> list[float]:
        groups: list[float] = cell["quality"][self._metric["name"]]["groups"]
        return groups

    def _samples(self, a: Cell, b: Cell) -> int:
        """The number of samples of each of two cells that are compared."""
        return self._n * min(len(a["runs"]), len(b["runs"]))

    def _format(self, cell: Cell) -> str:
        """The mean ± its standard error."""
        quality, digits = cell["quality"][self._metric["name"]], self._metric["digits"]
        error = "" if quality["se"] is None else f" ± {quality['se']:.{digits}f}"
        return f"{quality['mean']:.{digits}f}{error}"

    def _find(self, name: str | None) -> Cell | None:
        return next((cell for cell in self._cells if cell["id"] == name), None)
