"""Analysis of a comparison: a statement about each setting, and the recommended setting.

The value of a metric comes with groups: numbers that belong to a few samples each and whose mean is
the value (`ggf_cli.metrics.evaluator.Evaluator.groups`). A group has the same sample indices in
every cell, so the same prior noise: cells are compared by the paired differences of their groups
(`ggf_cli.comparison.equivalence`). A metric without an influence function has one group a repeat;
with one repeat nothing can be stated.

Every setting is compared with one baseline: the reference, else the setting with the most
evaluations. The baseline is not chosen by its value, since the best of several values is too good
by chance.

Fréchet distances are compared by their extrapolation to n -> infinity, so that samples with too
little variance, which have a smaller excess, cannot win. With fewer samples than twice the number
of features the extrapolation is not trusted: its effect on a difference counts as an error.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from itertools import chain
from typing import Any

from ggf_cli.comparison import statements as texts
from ggf_cli.comparison.equivalence import GOOD, Statement, state

# The share of the baseline's value by which a setting may be worse, unless another is given.
MARGIN = 0.05
# The margin of a Fréchet distance is a share of the baseline's distance at this number of samples,
# with which distances are published. At n -> infinity an exact solver has 0, which has no share.
PUBLISHED_SAMPLES = 50_000

# A cell of compare.json.
Cell = Mapping[str, Any]


def summarise(
    values: Sequence[float],
    groups: Sequence[float] | None = None,
    excess: Sequence[float] | None = None,
) -> dict[str, Any]:
    """Compute the mean and the standard error of a metric.

    Args:
        values: The value of each repeat.
        groups: The numbers of all groups of all repeats; None: the values.
        excess: How much each value exceeds its limit for many samples; None if unknown.

    Returns:
        {"values", "groups", "mean", "se"}, and "excess" unless it is None; the standard error is
        None for a single group.
    """
    groups = values if groups is None else groups
    se = statistics.stdev(groups) / math.sqrt(len(groups)) if len(groups) > 1 else None
    return {
        "values": list(values),
        "groups": list(groups),
        "mean": statistics.fmean(values),
        "se": se,
    } | ({} if excess is None else {"excess": list(excess)})


class Analysis:
    """Analysis of the cells of a comparison by its first metric.

    Args:
        metric: The metric, as in compare.json: {"name", "title", "lower_is_better", "digits"}, and
            "dimensions" if its values are extrapolated.
        cells: The cells, as in compare.json; those without a value of the metric are left out.
        n: The number of samples of one repeat.
        margin: The share of the baseline's value by which a setting may be worse.
    """

    def __init__(
        self, metric: Mapping[str, Any], cells: Sequence[Cell], n: int, margin: float = MARGIN
    ) -> None:
        self._metric, self._n, self.margin = metric, n, margin
        self._cells = [cell for cell in cells if metric["name"] in cell["quality"]]
        self._by_id = {cell["id"]: cell for cell in self._cells}
        self._baseline = next((c for c in self._cells if c["role"] == "reference"), None) or max(
            self._cells, key=_nfe, default=None
        )
        self._pairs = [
            (self._by_id[cell["matches"]], cell)
            for cell in self._cells
            if cell["role"] == "matched" and cell["matches"] in self._by_id
        ]
        self._others = [cell for cell in self._cells if cell is not self._baseline]
        # The number of statements, which share one error probability.
        self.count = len(self._others) + len(self._pairs)
        self._statements = {
            cell["id"]: self._state(cell, self._baseline)
            for cell in self._others
            if self._baseline is not None
        }

    def best(self) -> str | None:
        """Return the id of the cell with the best mean."""
        sign = 1 if self._metric["lower_is_better"] else -1
        means = {c["id"]: sign * self._quality(c)["mean"] for c in self._cells}
        return min(means, key=means.__getitem__) if means else None

    def statement(self, cell: str) -> dict[str, Any] | None:
        """Return the statement about a cell, as in compare.json; None for the baseline."""
        if cell not in self._statements or self._baseline is None:
            return None
        return {"baseline": self._baseline["id"], **asdict(self._statements[cell])}

    def recommendation(self) -> dict[str, Any] | None:
        """Recommend the cheapest setting that is shown to be as good as the baseline.

        It is the baseline itself if every cheaper setting is worse, and none if that is not
        decided. None without cells.
        """
        if self._baseline is None:
            return None
        cheaper = sorted((c for c in self._others if _nfe(c) < _nfe(self._baseline)), key=_nfe)
        good = [c for c in cheaper if self._claim(c) in GOOD]
        all_worse = bool(cheaper) and all(self._claim(c) == "worse" for c in cheaper)
        chosen = good[0] if good else self._baseline if all_worse else None
        by_series: dict[str, str] = {}
        for cell in good:
            by_series.setdefault(cell["series"], cell["id"])
        if chosen is None:
            text = self._no_recommendation(cheaper, self._baseline)
        elif chosen is self._baseline:
            text = (
                f"{self._describe(chosen)} at {_nfe(chosen):.0f} NFE: every cheaper setting is"
                " worse."
            )
        else:
            text = (
                f"{self._describe(chosen)} at {_nfe(chosen):.0f} NFE, "
                + texts.relation(self._claim(chosen))
                + f" {self._describe(self._baseline)}, which takes"
                f" {_nfe(self._baseline) / _nfe(chosen):.1f} times as many evaluations;"
                f" {self._details(self._statements[chosen['id']])}."
            )
        return {
            "overall": chosen["id"] if chosen else None,
            "by_series": by_series,
            "within": self.margin,
            "text": text,
        }

    def findings(self) -> list[str]:
        """State in sentences: each matched pair, each adaptive series, values below the floor."""
        found = [self._compare_pair(adaptive, cell) for adaptive, cell in self._pairs]
        if self._baseline is not None:
            series = dict.fromkeys(c["series"] for c in self._others if c["adaptive"])
            found += [self._compare_series(name, self._baseline) for name in series]
        return found + self._below_floor()

    # --- statements -----------------------------------------------------------------------------

    def _state(self, cell: Cell, baseline: Cell) -> Statement:
        sign = 1 if self._metric["lower_is_better"] else -1
        own, other = self._limits(cell), self._limits(baseline)
        excess = self._quality(baseline).get("excess")
        published = statistics.fmean(excess) * self._n / PUBLISHED_SAMPLES if excess else 0.0
        return state(
            [sign * value for value in own],
            [sign * value for value in other],
            scale=[value + published for value in other],
            margin=self.margin,
            samples=self._samples(cell, baseline),
            count=self.count,
            allowance=self._allowance(cell, baseline),
        )

    def _limits(self, cell: Cell) -> list[float]:
        """The groups of a cell, extrapolated to n -> infinity if that is possible."""
        quality = self._quality(cell)
        if "excess" not in quality:
            return list(quality["groups"])
        size = len(quality["groups"]) // len(quality["values"])
        each = chain.from_iterable([excess] * size for excess in quality["excess"])
        return [value - excess for value, excess in zip(quality["groups"], each, strict=False)]

    def _allowance(self, a: Cell, b: Cell) -> float:
        """The effect of an extrapolation that is not trusted on a difference."""
        if not self._metric.get("dimensions") or is_extrapolated(self._metric, self._n):
            return 0.0
        first, second = (statistics.fmean(self._quality(c)["excess"]) for c in (a, b))
        return abs(first - second)

    def _claim(self, cell: Cell) -> str:
        return self._statements[cell["id"]].claim

    # --- sentences ------------------------------------------------------------------------------

    def _compare_pair(self, a: Cell, b: Cell) -> str:
        """Compare two cells of the same NFE."""
        found = self._state(a, b)
        values = f"{self._metric['title']} {self._format(a)} and {self._format(b)}"
        if found.claim == "undecided":
            return (
                f"At the same NFE, {a['label']} and {b['label']}: {self._undecided(found, a, b)}:"
                f" {values}, {self._details(found)}."
            )
        relation = texts.relation(found.claim)
        return (
            f"At the same NFE, {a['label']} is {relation} {b['label']}: {values},"
            f" {self._details(found)}."
        )

    def _compare_series(self, series: str, baseline: Cell) -> str:
        """Compare the cheapest setting of a series that is as good as the baseline with it."""
        cells = sorted((c for c in self._others if c["series"] == series), key=_nfe)
        good = [c for c in cells if self._claim(c) in GOOD]
        if not good:
            if all(self._claim(c) == "worse" for c in cells):
                return f"Every setting of {series} is worse than {self._describe(baseline)}."
            return (
                f"No setting of {series} is shown to be as good as {self._describe(baseline)};"
                f" {self._first_to_decide(cells, baseline)}."
            )
        cell, found = good[0], self._statements[good[0]["id"]]
        return (
            f"{cell['label']} is {texts.relation(found.claim)} {baseline['label']}, with"
            f" {_nfe(baseline) / _nfe(cell):.1f} times fewer evaluations: {self._metric['title']}"
            f" {self._format(cell)} and {self._format(baseline)}, {self._details(found)}."
        )

    def _below_floor(self) -> list[str]:
        """Explain values below the floor, which samples can have by too little variance."""
        floor = self._metric.get("floor")
        below = [
            c
            for c in self._cells
            if floor and self._metric["lower_is_better"] and "excess" in self._quality(c)
            if self._quality(c)["mean"] < floor["mean"]
        ]
        if not below:
            return []
        return [
            texts.below_floor(
                self._metric,
                {c["label"]: self._quality(c) for c in below},
                extrapolated=is_extrapolated(self._metric, self._n),
            )
        ]

    def _no_recommendation(self, cheaper: Sequence[Cell], baseline: Cell) -> str:
        if not cheaper:
            return f"There is no cheaper setting to compare with {baseline['label']}."
        return (
            f"No setting is shown to be within {100 * self.margin:g} % of"
            f" {self._describe(baseline)}; {self._first_to_decide(cheaper, baseline)}."
        )

    def _first_to_decide(self, cells: Sequence[Cell], baseline: Cell) -> str:
        """The undecided cell that needs the fewest samples, and their number."""
        undecided = [c for c in cells if self._claim(c) == "undecided"]
        cell = min(undecided, key=lambda c: self._statements[c["id"]].samples or math.inf)
        found = self._undecided(self._statements[cell["id"]], cell, baseline)
        return f"{cell['label']} is {found}"

    def _undecided(self, found: Statement, a: Cell, b: Cell) -> str:
        return texts.undecided(found, self._samples(a, b))

    def _details(self, found: Statement) -> str:
        return texts.details(found, self._metric, extrapolated=bool(self._metric.get("dimensions")))

    def _samples(self, a: Cell, b: Cell) -> int:
        """The number of samples of each of two cells that are compared."""
        return self._n * min(len(a["runs"]), len(b["runs"]))

    def _quality(self, cell: Cell) -> Mapping[str, Any]:
        quality: Mapping[str, Any] = cell["quality"][self._metric["name"]]
        return quality

    def _describe(self, cell: Cell) -> str:
        """The label and the value of a cell."""
        return f"{cell['label']} ({self._metric['title']} {self._format(cell)})"

    def _format(self, cell: Cell) -> str:
        return texts.plus_minus(self._quality(cell), self._metric["digits"])


def is_extrapolated(metric: Mapping[str, Any], n: int) -> bool:
    """Check whether values of a metric from n samples are extrapolated to n -> infinity."""
    dimensions: int = metric.get("dimensions") or 0
    return 0 < 2 * dimensions <= n


def limit(quality: Mapping[str, Any]) -> dict[str, Any] | None:
    """The extrapolation to n -> infinity, {"mean", "se"}; None without an excess."""
    if not quality.get("excess"):
        return None
    return {
        "mean": quality["mean"] - statistics.fmean(quality["excess"]),
        "se": quality["se"],
    }


def _nfe(cell: Cell) -> float:
    mean: float = cell["nfe"]["mean"]
    return mean
