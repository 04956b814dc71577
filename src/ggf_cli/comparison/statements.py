"""The statements of a comparison as text."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ggf_cli.comparison.equivalence import Statement

_RELATIONS = {
    "better": "better than",
    "equivalent": "equivalent to",
    "not worse": "not worse than",
    "worse": "worse than",
}
# With more samples than this the number is no advice.
_MOST = 10_000_000


def relation(claim: str) -> str:
    """The words between a setting and its baseline: "better than"."""
    return _RELATIONS[claim]


def undecided(found: Statement, samples: int) -> str:
    """Say with how many samples a statement could be made."""
    if found.half is None:
        return "undecided, without an error bar: use --repeats"
    text = f"undecided at n = {samples:,}"
    if found.samples is None or found.samples > _MOST:
        return f"{text}; more than {_MOST:,} samples would decide"
    return f"{text}; about {two_digits(found.samples):,} samples would decide"


def details(found: Statement, metric: Mapping[str, Any], *, extrapolated: bool) -> str:
    """The difference of setting and baseline, its interval, and the margin."""
    digits = metric["digits"]
    # The loss of a metric for which higher is better is its negative value.
    difference = found.difference if metric["lower_is_better"] else -found.difference
    limit = " for n → ∞" if extrapolated else ""
    text = f"difference{limit} {difference:+.{digits}f}"
    if found.half is not None:
        low, high = difference - found.half, difference + found.half
        text += f", 95 % confidence interval {low:+.{digits}f} to {high:+.{digits}f}"
    return f"{text}, margin {found.margin:.{max(digits, 2)}f}"


def below_floor(
    metric: Mapping[str, Any], qualities: Mapping[str, Mapping[str, Any]], *, extrapolated: bool
) -> str:
    """Explain values below the floor."""
    digits = metric["digits"]
    cells = ", ".join(f"{label} ({q['mean']:.{digits}f})" for label, q in qualities.items())
    text = (
        f"Below the floor of {metric['floor']['mean']:.{digits}f}: {cells}. That is chance, or too"
        f" little variance: such samples exceed their {metric['title']} for n → ∞ by less than real"
        " samples do. They are not better than real samples."
    )
    if extrapolated:
        text += f" Compare {metric['title']} for n → ∞, where exact samples have 0."
    return text


def plus_minus(value: Mapping[str, Any], digits: int) -> str:
    """Format mean ± standard error, or the mean alone without one."""
    mean, se = value["mean"], value["se"]
    return f"{mean:,.{digits}f}" + ("" if se is None else f" ± {se:,.{digits}f}")


def two_digits(count: int) -> int:
    """Round a number of samples up to two digits."""
    step = int(10 ** max(0, len(str(count)) - 2))
    return -(-count // step) * step
