"""The time that a comparison takes: a model of it, from measured costs.

A network call of r rows takes a fixed time and a time for each row. The evaluation of n samples
takes c0 + c1 n + c2 n^2: features, and distances between all pairs.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations

import numpy as np

from ggf_cli.comparison.lineup import Cell

# Seconds that were measured on one core: files and log of a run, and of a sample of it; the report,
# and its share of a cell.
RUN_S, SAMPLE_S = 0.25, 0.0005
REPORT_S, REPORT_CELL_S = 2.0, 0.1


@dataclass(frozen=True, kw_only=True)
class CallCost:
    """The time of a network call with its solver step: `call` + `row` × rows, in seconds."""

    call: float = 0.0
    row: float

    @classmethod
    def through(cls, few: tuple[int, float], many: tuple[int, float]) -> CallCost:
        """The cost through two measurements (rows, seconds of a call)."""
        rows, seconds = many
        if rows > few[0] and seconds > few[1]:
            row = (seconds - few[1]) / (rows - few[0])
            call = seconds - row * rows
            if call >= 0:
                return cls(call=call, row=row)
        return cls(row=seconds / rows)


@dataclass(frozen=True, kw_only=True)
class Growth:
    """A time that grows with the number of samples, c0 + c1 n + c2 n^2 seconds."""

    c0: float = 0.0
    c1: float = 0.0
    c2: float = 0.0

    def __call__(self, n: int) -> float:
        return self.c0 + self.c1 * n + self.c2 * n * n

    @classmethod
    def through(cls, points: Sequence[tuple[int, float]]) -> Growth:
        """The growth with coefficients >= 0 that fits measurements (n, seconds) best, relatively.

        One measurement is divided in a constant part and one that grows with n.
        """
        if not points:
            return cls()
        if len(points) == 1:
            (n, seconds), constant = points[0], 0.9
            return cls(c0=constant * seconds, c1=(1 - constant) * seconds / n)
        n, seconds = np.array(points, float).T
        powers = np.stack([np.ones_like(n), n, n * n], 1) / seconds[:, None]
        best, least = np.zeros(3), math.inf
        # All sets of coefficients that are not 0, the simplest first.
        for size in (1, 2, 3):
            for used in combinations(range(3), size):
                if size > len(points):
                    continue
                found = np.linalg.lstsq(powers[:, used], np.ones(len(n)), rcond=None)[0]
                error = float(((powers[:, used] @ found - 1) ** 2).sum())
                if (found >= 0).all() and error < 0.9 * least - 1e-9:
                    best, least = np.zeros(3), error
                    best[list(used)] = found
        return cls(c0=float(best[0]), c1=float(best[1]), c2=float(best[2]))


@dataclass(frozen=True, kw_only=True)
class Costs:
    """The measured costs of a comparison.

    Attributes:
        nfe: Expected evaluations of a sample, by cell id.
        calls: The time of a network call, by cell id.
        batch_size: Batch size.
        evaluation: The time of evaluating n samples by all metrics.
        floors: The time of the floors of all metrics.
        processes: Number of processes that draw.
        estimated: The ids of cells whose NFE was not measured.
    """

    nfe: Mapping[str, float]
    calls: Mapping[str, CallCost]
    batch_size: int
    evaluation: Growth = field(default_factory=Growth)
    floors: Growth = field(default_factory=Growth)
    processes: int = 1
    estimated: Sequence[str] = ()

    def drawing(self, cell: Cell, n: int) -> float:
        """Seconds of drawing a repeat of a cell."""
        share = math.ceil(n / self.processes)
        batches, cost = math.ceil(share / self.batch_size), self.calls[cell.id]
        network = self.nfe[cell.id] * (batches * cost.call + share * cost.row)
        return network + RUN_S + SAMPLE_S * n

    def repeat(self, cell: Cell, n: int) -> float:
        """Seconds of drawing and evaluating a repeat of a cell."""
        return self.drawing(cell, n) + self.evaluation(n)

    def report(self, cells: int) -> float:
        """Seconds of the report."""
        return REPORT_S + REPORT_CELL_S * cells

    def total(self, cells: Sequence[Cell], n: int, repeats: int) -> float:
        """Seconds of a comparison, from its floors to its report."""
        drawn = sum(self.repeat(cell, n) for cell in cells)
        return self.floors(n) + repeats * drawn + self.report(len(cells))
