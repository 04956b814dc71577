"""What a comparison shows: which differences are more than chance, and which setting to take.

A value comes with groups: numbers for some samples each, of which it is the mean (`ggf_cli.metrics.evaluator.Evaluator.groups`). A
group has the same samples' prior noise in every cell, so two cells are compared by the differences of their groups:
Student's t, two-sided, at 95 %. Where a metric has one group a repeat, one repeat tells nothing apart.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

WITHIN = 0.05
# Student's t, 97.5 %, by degrees of freedom; beyond the table the next smaller entry errs on the safe side
T_975 = {
    1: 12.706, 2: 4.303, 3: 3.182, 4: 2.776, 5: 2.571, 6: 2.447, 7: 2.365, 8: 2.306, 9: 2.262,
    10: 2.228, 15: 2.131, 19: 2.093, 30: 2.042, 39: 2.023, 59: 2.001, 79: 1.990, 119: 1.980,
}  # fmt: skip


def summarise(values: Sequence[float], groups: Sequence[float] | None = None) -> dict[str, Any]:
    """What is said of a metric: its value for each repeat, their groups (default: themselves), their mean and standard error.

    {"values", "groups", "mean", "se"}; the error is None for a single group.
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
    """Mean of a - b over the groups that both have, and the half-width of its 95 % interval (None: unknown)."""
    pairs = [x - y for x, y in zip(a, b, strict=False)]
    mean = statistics.fmean(pairs)
    if len(pairs) < 2:
        return mean, None
    freedom = max(k for k in T_975 if k <= len(pairs) - 1)
    return mean, T_975[freedom] * statistics.stdev(pairs) / math.sqrt(len(pairs))


def apart(a: Sequence[float], b: Sequence[float]) -> bool:
    """Whether two cells can be told apart."""
    mean, half = difference(a, b)
    return half is not None and abs(mean) > half


class Verdict:
    """Reads the cells of a comparison (as `document` has them) by its first metric.

    Args:
        metric: {"name", "title", "lower_is_better", "digits"}.
        cells: All cells; those that are not judged are passed over.
    """

    def __init__(self, metric: Mapping[str, Any], cells: Sequence[Mapping[str, Any]]) -> None:
        self._metric = metric
        self._cells = [cell for cell in cells if metric["name"] in cell["quality"]]

    def best(self) -> str | None:
        """The id of the cell with the best mean."""
        return min(self._cells, key=self._loss)["id"] if self._cells else None

    def tied(self) -> set[str]:
        """The ids of the others that cannot be told apart from it."""
        best = self._find(self.best())
        if best is None:
            return set()
        same = (c for c in self._cells if not apart(self._groups(c), self._groups(best)))
        return {cell["id"] for cell in same} - {best["id"]}

    def recommendation(self) -> dict[str, Any] | None:
        """The cheapest setting whose mean lies within 5 % of the best: overall, and of each series."""
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
        text = f"{overall['label']}: {self._say(overall)} at {overall['nfe']['mean']:.0f} NFE"
        if overall is not best:
            text += f", the cheapest within 5 % of the best ({best['label']}: {self._say(best)})"
            if best["nfe"]["mean"] > overall["nfe"]["mean"]:
                text += f", which takes {best['nfe']['mean'] / overall['nfe']['mean']:.1f} times as many"
        return {
            "overall": overall["id"],
            "by_series": by_series,
            "within": WITHIN,
            "text": f"{text}.",
        }

    def findings(self) -> list[str]:
        """What can be said of each matched pair, and of each series beside the reference."""
        said = []
        for cell in self._cells:
            if cell["role"] == "matched" and (model := self._find(cell["matches"])):
                said.append(self._against(model, cell, "At the same NFE"))
        reference = next((c for c in self._cells if c["role"] == "reference"), None)
        if reference is None:
            return said
        for series in dict.fromkeys(c["series"] for c in self._cells if c["adaptive"]):
            cells = sorted(
                (c for c in self._cells if c["series"] == series), key=lambda c: c["nfe"]["mean"]
            )
            # Not to be told apart is little where errors are large: a mean that is as good says more.
            equal = [c for c in cells if self._near(c, reference)] or [
                c for c in cells if not apart(self._groups(c), self._groups(reference))
            ]
            if not equal:
                said.append(
                    f"No setting of {series} reaches {reference['label']}"
                    f" ({self._metric['title']} {self._say(reference)}) here."
                )
                continue
            cell = equal[0]
            times = reference["nfe"]["mean"] / cell["nfe"]["mean"]
            values = f"{self._metric['title']} {self._say(cell)} and {self._say(reference)}"
            same = not apart(self._groups(cell), self._groups(reference))
            near = self._near(cell, reference)
            relation = {
                (True, True): "is as good as {}",
                (True, False): "cannot be told apart from {}",
                (False, True): "is within 5 % of {}",
            }[same, near]
            if not same and self._loss(cell) < self._loss(reference):
                relation = "is better than {}"
            said.append(
                f"{cell['label']} {relation.format(reference['label'])}, with {times:.1f} times fewer"
                f" evaluations: {values}."
            )
        return said

    def _against(self, a: Mapping[str, Any], b: Mapping[str, Any], where: str) -> str:
        mean, half = difference(self._groups(a), self._groups(b))
        names = f"{where} {a['label']} and {b['label']}"
        values = f"{self._metric['title']} {self._say(a)} and {self._say(b)}"
        if half is None:
            return f"{names} have {values}; nobody knows how far chance goes; more --repeats would tell."
        digits = self._metric["digits"]
        interval = f"difference {mean:+.{digits}f} ± {half:.{digits}f} at 95 %"
        if abs(mean) <= half:
            return f"{names} cannot be told apart: {values}, {interval}."
        verb = "is better" if (mean < 0) == self._metric["lower_is_better"] else "is worse"
        return f"{where} {a['label']} {verb} than {b['label']}: {values}, {interval}."

    def _cheapest(self, cells: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
        """The one with the fewest evaluations within 5 % of the best of these."""
        best = min(cells, key=self._loss)
        return min((c for c in cells if self._near(c, best)), key=lambda cell: cell["nfe"]["mean"])

    def _near(self, cell: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
        """Whether it is better, or worse by 5 % at most."""
        return self._loss(cell) <= self._loss(other) + WITHIN * abs(self._loss(other))

    def _loss(self, cell: Mapping[str, Any]) -> float:
        mean: float = cell["quality"][self._metric["name"]]["mean"]
        return mean if self._metric["lower_is_better"] else -mean

    def _groups(self, cell: Mapping[str, Any]) -> list[float]:
        groups: list[float] = cell["quality"][self._metric["name"]]["groups"]
        return groups

    def _say(self, cell: Mapping[str, Any]) -> str:
        quality, digits = cell["quality"][self._metric["name"]], self._metric["digits"]
        error = "" if quality["se"] is None else f" ± {quality['se']:.{digits}f}"
        return f"{quality['mean']:.{digits}f}{error}"

    def _find(self, name: str | None) -> Mapping[str, Any] | None:
        return next((cell for cell in self._cells if cell["id"] == name), None)
