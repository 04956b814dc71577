"""What a time budget affords: so many samples a repeat, and if it must be, fewer settings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ggf_cli.comparison.lineup import Cell

DRAWING = 0.9  # of the time; the rest goes into judging and plots
FEWEST_REPEATS = 1


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What is affordable.

    Attributes:
        n: Samples a repeat.
        repeats: Repeats.
        cells: The cells that are left.
        seconds: Expected time of the drawing.
        notes: What was decided, for people.
    """

    n: int
    repeats: int
    cells: list[Cell]
    seconds: float
    notes: list[str]


def afford(
    cells: Sequence[Cell],
    nfe: Mapping[str, float],
    *,
    rate: float,
    seconds: float,
    repeats: int,
    min_samples: int,
) -> Plan:
    """Spend the budget on as many samples as possible.

    Args:
        cells: What is wanted.
        nfe: Expected evaluations a sample of each cell, by id.
        rate: Network evaluations a second.
        seconds: The budget.
        repeats: Wanted repeats.
        min_samples: Fewer cannot be judged.
    """
    chosen, notes = list(cells), []

    def affordable() -> int:
        per_sample = sum(nfe[cell.id] for cell in chosen)
        return int(DRAWING * seconds * rate / (per_sample * repeats))

    while affordable() < min_samples and (dearest := _dearest(chosen, nfe)):
        chosen = [cell for cell in chosen if dearest.id not in (cell.id, cell.matches)]
        notes.append(f"{dearest.id} is left out: the time does not suffice for it")
    while affordable() < min_samples and repeats > FEWEST_REPEATS:
        repeats -= 1
        notes.append(f"{repeats} repeats only: the time does not suffice for more")
    n = affordable()
    if n < min_samples:
        n = min_samples
        notes.append(f"{n} samples a repeat take longer than asked for, but fewer cannot be judged")
    needed = n * repeats * sum(nfe[cell.id] for cell in chosen) / rate
    return Plan(n=n, repeats=repeats, cells=chosen, seconds=needed, notes=notes)


def _dearest(cells: Sequence[Cell], nfe: Mapping[str, float]) -> Cell | None:
    """The most expensive setting of a series that has another; it takes the cells that match it along."""
    contenders = [cell for cell in cells if cell.role == "contender"]
    spare = [c for c in contenders if sum(other.series == c.series for other in contenders) > 1]
    return max(spare, key=lambda cell: nfe[cell.id], default=None)


def parse_duration(text: str) -> float:
    """ "90s", "10m", "1.5h", "600" -> seconds. Raises ValueError."""
    unit = {"s": 1, "m": 60, "h": 3600}.get(text[-1:], 0)
    value = float(text[:-1]) * unit if unit else float(text)
    if not 1 <= value <= 1e7:
        raise ValueError(text)
    return value
