"""Choose samples, repeats and cells that fit a time budget."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ggf_cli.comparison.lineup import Cell

# The share of the time for drawing; the rest is for evaluation and plots.
DRAWING = 0.9
FEWEST_REPEATS = 1


@dataclass(frozen=True, kw_only=True)
class Allocation:
    """The part of a comparison that fits a time budget.

    Attributes:
        n: Samples of a repeat.
        repeats: Repeats.
        cells: The cells that are kept.
        seconds: Expected time of drawing.
        notes: Decisions, a sentence each.
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
) -> Allocation:
    """Spend the budget on as many samples as possible.

    If the budget is too small for `min_samples`, the most expensive cells are left out first, then
    repeats.

    Args:
        cells: The requested cells.
        nfe: Expected evaluations of a sample, by cell id.
        rate: Network evaluations a second.
        seconds: The budget.
        repeats: Requested repeats.
        min_samples: The fewest samples of a repeat.
    """
    chosen, notes = list(cells), []

    def affordable() -> int:
        per_sample = sum(nfe[cell.id] for cell in chosen)
        return int(DRAWING * seconds * rate / (per_sample * repeats))

    while affordable() < min_samples and (dearest := _dearest(chosen, nfe)):
        chosen = [cell for cell in chosen if dearest.id not in (cell.id, cell.matches)]
        notes.append(f"{dearest.id} is left out: the time budget is too small for it")
    while affordable() < min_samples and repeats > FEWEST_REPEATS:
        repeats -= 1
        notes.append(f"only {repeats} repeats: the time budget is too small for more")
    n = affordable()
    if n < min_samples:
        n = min_samples
        notes.append(f"{n} samples a repeat, the fewest for the metrics, exceed the time budget")
    needed = n * repeats * sum(nfe[cell.id] for cell in chosen) / rate
    return Allocation(n=n, repeats=repeats, cells=chosen, seconds=needed, notes=notes)


def _dearest(cells: Sequence[Cell], nfe: Mapping[str, float]) -> Cell | None:
    """The most expensive cell of a series that has other cells."""
    contenders = [cell for cell in cells if cell.role == "contender"]
    spare = [c for c in contenders if sum(other.series == c.series for other in contenders) > 1]
    return max(spare, key=lambda cell: nfe[cell.id], default=None)


def parse_duration(text: str) -> float:
    """Parse a duration, "90s", "10m", "1.5h" or "600", in seconds.

    Raises:
        ValueError: The text is no duration of 1 to 1e7 s.
    """
    unit = {"s": 1, "m": 60, "h": 3600}.get(text[-1:], 0)
    value = float(text[:-1]) * unit if unit else float(text)
    if not 1 <= value <= 1e7:
        raise ValueError(text)
    return value
