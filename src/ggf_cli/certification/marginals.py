"""Check a: the distribution of the samples, against exact models.

A statistic fails if its error exceeds its limit: the allowance for the discretisation, plus z
standard errors of as many exact samples. z is chosen so that all statistics of a certificate
together exceed it by chance with probability ALPHA, if each is normal (Bonferroni).

If statistics fail and the sampler has a number of steps, the steps are doubled until they pass, at
most DOUBLINGS times. The check is right if they pass then: the error at fewer steps is that of the
discretisation. It is wrong if the first doubling does not reduce the largest excess to SHRINKS of
itself, and else undecided.
"""

from __future__ import annotations

from statistics import NormalDist

import torch
from torch import Tensor

from ggf_cli.certification.documents import Check, Measurement, Status, finite
from ggf_cli.certification.problems import (
    PLANE,
    Problem,
    names_of_statistics,
    spread,
    standardised_at,
    statistics,
)
from ggf_cli.certification.samplers import Drawn, Sampler, draw

# The probability that any statistic of a right sampler exceeds its standard errors by chance.
ALPHA = 5e-4
# The statistics of a certificate, at most: 7 + 24 of the samples and 6 of the start, for 2 SDEs.
STATISTICS = 74
Z = NormalDist().inv_cdf(1 - ALPHA / (2 * STATISTICS))
# Allowance for the discretisation: of a weight; of a mean, in standard deviations of its class; of
# a covariance, relative.
WEIGHT, MEAN, COVARIANCE = 0.02, 0.05, 0.1
SHRINKS = 0.75
DOUBLINGS = 3


def check_marginals(
    sampler: Sampler, problem: Problem, *, n: int, seed: int
) -> tuple[list[Check], Drawn]:
    """Check the samples and the start of a problem; also return what was drawn."""
    drawn = draw(sampler, problem, torch.arange(n), seed=seed)
    measurements = measure(problem, drawn.x)
    checks = [_check(sampler, problem, measurements, n=n, seed=seed)]
    # The line of the start is measured where the marginals are Gaussian.
    if len(problem.mixture.weight) == 1:
        checks.append(_start(problem, drawn, n))
    return checks, drawn


def measure(problem: Problem, x: Tensor) -> list[Measurement]:
    """The errors of weights, means and covariances of samples x (n, D), with their limits."""
    errors = statistics(problem.mixture, x).mean(0)
    standard_errors = spread(problem.mixture) / len(x) ** 0.5
    names = names_of_statistics(problem.mixture)
    return [
        _measurement(name, error, se, _allowance(name))
        for name, error, se in zip(names, errors.tolist(), standard_errors.tolist(), strict=True)
    ]


def _measurement(name: str, error: float, se: float, allowance: float) -> Measurement:
    return Measurement(
        name=name,
        value=finite(error),
        expected=0.0,
        standard_error=se,
        allowance=allowance,
        limit=allowance + Z * se,
    )


def _allowance(name: str) -> float:
    return {"weight": WEIGHT, "mean": MEAN, "covariance": COVARIANCE}[name.split()[0]]


def _check(
    sampler: Sampler, problem: Problem, measurements: list[Measurement], *, n: int, seed: int
) -> Check:
    status: Status = "right"
    worst = max(measurements, key=_ratio)
    summary = f"{_describe(worst)}, the largest of {len(measurements)} errors by its limit"
    first = _excess(measurements)
    if first > 0:
        status, remark = _refine(sampler, problem, first, n=n, seed=seed)
        summary = f"{_describe(worst)}{remark}"
    return Check(
        name="marginals",
        problem=problem.title,
        status=status,
        summary=summary,
        measurements=measurements,
    )


def _refine(
    sampler: Sampler, problem: Problem, first: float, *, n: int, seed: int
) -> tuple[Status, str]:
    """Repeat a test that failed by `first` with more steps: the status, and a remark."""
    if sampler.steps is None:
        return "wrong", ""
    steps = sampler.steps
    for doubling in range(DOUBLINGS):
        steps *= 2
        # Independent samples: else the same chance would count twice.
        again = draw(sampler, problem, torch.arange(n), seed=seed + 1 + doubling, steps=steps)
        excess = _excess(measure(problem, again.x))
        if excess <= 0:
            return "right", f", with {sampler.steps} steps; passes with {steps}"
        # Not <=, so that NaN is wrong.
        if doubling == 0 and not excess <= SHRINKS * first:
            return "wrong", f"; no smaller with {steps} steps"
    return "undecided", f"; smaller, but still too large, with {steps} steps"


def _ratio(measurement: Measurement) -> float:
    assert measurement.limit is not None
    return abs(measurement.value) / measurement.limit


def _excess(measurements: list[Measurement]) -> float:
    """The largest error beyond chance, less its allowance, in units of the allowance."""
    return max((abs(m.value) - (m.limit or 0)) / (m.allowance or 1) for m in measurements)


def _describe(m: Measurement) -> str:
    return f"error of {m.name} {m.value:+.3f} ± {m.standard_error:.3f}, limit {m.limit:.3f}"


def _start(problem: Problem, drawn: Drawn, n: int) -> Check:
    """Check d, first part: x at the first evaluation has the marginal of its time.

    The prior is N(0, prior_std^2), and the exact marginal has a little of the data in it, so means
    and variances have the allowances of the samples.
    """
    x, t = drawn.first
    if len(x) != n:
        return Check(
            name="start",
            problem=problem.title,
            status="undecided",
            summary=f"the first evaluation was of {len(x)} of {n} samples",
        )
    y = standardised_at(problem, x, t)
    groups = [(f"{i + 1}", y[:, i], n) for i in range(PLANE)]
    if y.shape[1] > PLANE:
        groups.append(("of the others", y[:, PLANE:], n * (y.shape[1] - PLANE)))
    measurements = []
    for name, values, count in groups:
        mean, variance = float(values.mean()), float(values.square().mean()) - 1
        measurements += [
            _measurement(f"mean {name}", mean, count**-0.5, MEAN),
            _measurement(f"variance {name}", variance, (2 / count) ** 0.5, COVARIANCE),
        ]
    # Data that are not finite fail.
    good = all(_ratio(m) <= 1 for m in measurements)
    worst = max(measurements, key=_ratio)
    return Check(
        name="start",
        problem=problem.title,
        status="right" if good else "wrong",
        summary=f"at t = {float(t.max()):.4g}: {_describe(worst)}",
        measurements=measurements,
    )
