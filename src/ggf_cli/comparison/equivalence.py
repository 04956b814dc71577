"""Statements about the difference of two settings: better, equivalent, worse, or undecided.

The difference of setting and baseline is the mean of paired differences over groups of samples. Its
confidence interval is Student's t, two-sided. A comparison makes `count` statements, each from an
interval at 1 - 5 % / count (Bonferroni), so that with a probability of 95 % all statements of a
comparison are true. In terms of the interval and of the margin, both in units of the loss:

    equivalent   the interval lies within -margin .. margin
    better       else, the interval lies below 0
    worse        else, the interval lies above 0
    not worse    else, the interval lies below the margin
    undecided    else
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Literal

# The probability that any statement of a comparison is false.
ERROR = 0.05
# Settings with these statements may be recommended.
GOOD = ("better", "equivalent", "not worse")

Claim = Literal["better", "equivalent", "not worse", "worse", "undecided"]


@dataclass(frozen=True, kw_only=True)
class Statement:
    """What a comparison shows about the difference of a setting and a baseline.

    Attributes:
        claim: The statement, see above.
        difference: Setting minus baseline; negative is better.
        half: Half-width of its interval; None with a single group.
        margin: The largest difference that does not matter; at least 0.
        samples: About the number of samples that would decide; None if decided or unknown.
    """

    claim: Claim
    difference: float
    half: float | None
    margin: float
    samples: int | None


def state(
    setting: Sequence[float],
    baseline: Sequence[float],
    *,
    scale: Sequence[float],
    margin: float,
    samples: int,
    count: int = 1,
    allowance: float = 0.0,
) -> Statement:
    """Make the statement about a setting.

    Args:
        setting: Values of the groups of the setting; lower is better.
        baseline: Values of the same groups of the baseline.
        scale: Numbers for the same groups; the margin is a share of their mean.
        margin: That share.
        samples: The number of samples of the setting.
        count: The number of statements of the comparison.
        allowance: A bound of the error of the difference that the groups do not show.
    """
    triples = list(zip(setting, baseline, scale, strict=False))
    difference, half = interval([a - b for a, b, _ in triples], count)
    width = margin * max(0.0, statistics.fmean(s for *_, s in triples))
    if half is None:
        return Statement(
            claim="undecided", difference=difference, half=None, margin=width, samples=None
        )
    half += allowance
    # The margin is an estimate too: its error counts in the intervals that are compared with it.
    upper, upper_half = interval([a - b - margin * s for a, b, s in triples], count)
    lower, lower_half = interval([a - b + margin * s for a, b, s in triples], count)
    assert upper_half is not None
    assert lower_half is not None
    below = max(upper + upper_half + allowance, difference + half - width) < 0
    above = min(lower - lower_half - allowance, difference - half + width) > 0
    claim: Claim = "undecided"
    if below and above:
        claim = "equivalent"
    elif difference + half < 0:
        claim = "better"
    elif difference - half > 0:
        claim = "worse"
    elif below:
        claim = "not worse"
    decides = _samples_to_decide(difference, half, width, samples)
    return Statement(
        claim=claim,
        difference=difference,
        half=half,
        margin=width,
        samples=decides if claim == "undecided" else None,
    )


def interval(values: Sequence[float], count: int = 1) -> tuple[float, float | None]:
    """Compute the mean and the half-width of its interval at 1 - 5 % / count.

    The half-width is None for a single value.
    """
    mean = statistics.fmean(values)
    if len(values) < 2:
        return mean, None
    quantile = t_quantile(1 - ERROR / count / 2, len(values) - 1)
    return mean, quantile * statistics.stdev(values) / math.sqrt(len(values))


@cache
def t_quantile(probability: float, freedom: int) -> float:
    """Quantile of Student's t with a whole number of degrees of freedom, 0.5 <= probability < 1."""
    low, high = 0.0, 1.0
    while _t_probability(high, freedom) < probability:
        low, high = high, 2 * high
    while high - low > 1e-12 * high:
        middle = (low + high) / 2
        if _t_probability(middle, freedom) < probability:
            low = middle
        else:
            high = middle
    return high


def _t_probability(t: float, freedom: int) -> float:
    """Distribution function of Student's t (Abramowitz and Stegun 26.7.3 and 26.7.4)."""
    angle = math.atan(t / math.sqrt(freedom))
    odd = freedom % 2
    square = math.cos(angle) ** 2
    # cos, cos^3 2/3, cos^5 2 4 / (3 5), ... or 1, cos^2 1/2, cos^4 1 3 / (2 4), ...
    term, total = (math.cos(angle) if odd else 1.0), 0.0
    for k in range(1 + odd, freedom, 2):
        total += term
        term *= square * k / (k + 1)
    total *= math.sin(angle)
    inside = 2 / math.pi * (angle + total) if odd else total
    return 0.5 + inside / 2


def _samples_to_decide(difference: float, half: float, margin: float, samples: int) -> int | None:
    """About the number of samples with which one of the statements could be made.

    Half-widths fall as one over the root of the number of samples. The difference is taken as it
    is, so the number is as uncertain as the difference.
    """
    away = max(abs(difference), margin - difference)
    if not away > 0:
        return None
    return max(samples + 1, math.ceil(samples * (half / away) ** 2))
