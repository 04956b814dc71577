"""Check b: the order of convergence, on a Gaussian whose coordinates are independent.

A deterministic sampler is compared with the exact probability flow from its first evaluation. A
stochastic sampler is compared with the exact mean and variance: its weak order, of the one of these
two whose errors are larger beside chance. The solve ends at t = 0.1, because near t = 0 the drift
is stiff, and the order shows only with many steps.

A sampler may end at t_eps, denoise by Tweedie's formula at the time of its last evaluation, or
continue to t = 0. The nearest of these ends is taken, at the largest number of steps.

The order is wrong if it is below the claim by more than MARGIN and Z standard errors. It is
undecided if fewer than two errors exceed chance and round-off, if the errors change their sign, or
if those of a deterministic sampler follow no power of the step: their slopes differ by more than
SLOPES.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise

import torch

from ggf_cli.certification.documents import Check, Measurement, Status
from ggf_cli.certification.marginals import Z
from ggf_cli.certification.problems import MEAN, STD, Problem, denoised, flow, isotropic, levels
from ggf_cli.certification.samplers import Drawn, Sampler, draw
from ggf_cli.errors import UsageError
from ggf_cli.sde import SDE

T_EPS = 0.1
# Divisors of 1000, the number of training steps of diffusers' schedulers.
STEPS = (20, 50, 100, 200)
MARGIN = 0.4
SLOPES = 1.0
# Below this, round-off in float32 inside a sampler may be seen.
ROUND_OFF = 3e-6
# A deterministic sampler whose errors fall more slowly does not converge to the flow.
NO_ORDER = 0.3
ROWS, SIZE = 16, 8
STOCHASTIC_ROWS, STOCHASTIC_SIZE = 1000, 64


@dataclass(frozen=True, kw_only=True)
class _Errors:
    """Errors by number of steps: values, and their standard errors."""

    steps: tuple[int, ...]
    values: tuple[float, ...]
    standard_error: float


def check_order(sampler: Sampler, sde: SDE, *, stochastic: bool, seed: int) -> Check:
    """Measure the order of a sampler with a number of steps, and compare it with the claim."""
    size = STOCHASTIC_SIZE if stochastic else SIZE
    problem = isotropic(sde, size).ending_at(T_EPS)
    kind = "weak order" if stochastic else "order"
    if sampler.steps is None:
        return Check(
            name="order",
            problem=problem.title,
            status="not applicable",
            summary="the sampler has no number of steps",
        )
    try:
        errors = _weak(sampler, problem, seed) if stochastic else _flow(sampler, problem, seed)
    except UsageError as error:
        # For example, restart has no interval above this t_eps.
        return Check(
            name="order",
            problem=problem.title,
            status="undecided",
            summary=f"it does not run on this problem: {error.message}",
        )
    status, summary, fitted = _conclude(errors, sampler.order, kind)
    measurements = [
        Measurement(
            name=f"error at {steps} steps",
            value=value,
            expected=0.0,
            standard_error=errors.standard_error,
        )
        for steps, value in zip(errors.steps, errors.values, strict=True)
    ]
    if fitted is not None:
        order, se = fitted
        measurements.append(
            Measurement(name=kind, value=order, expected=sampler.order, standard_error=se)
        )
    return Check(
        name="order",
        problem=problem.title,
        status=status,
        summary=summary,
        measurements=measurements,
    )


def _conclude(
    errors: _Errors, claim: float | None, kind: str
) -> tuple[Status, str, tuple[float, float] | None]:
    """The status, its summary, and the fitted order with its standard error, if there is one."""
    if not all(math.isfinite(value) for value in errors.values):
        return "wrong", "samples are not finite", None
    least = max(ROUND_OFF, Z * errors.standard_error)
    kept = [(n, e) for n, e in zip(errors.steps, errors.values, strict=True) if abs(e) > least]
    claimed = "none claimed" if claim is None else f"{claim:g} claimed"
    # Beyond the last three numbers of steps, higher-order terms count.
    kept = kept[-3:]
    if len(kept) < 2:
        return "undecided", f"the errors are too small to measure an order; {claimed}", None
    if len({e > 0 for _, e in kept}) > 1:
        return "undecided", f"the error changes its sign; {claimed}", None
    slopes = [_slope(list(pair), 0)[0] for pair in pairwise(kept)]
    if errors.standard_error == 0 and max(slopes) - min(slopes) > SLOPES:
        return "undecided", f"the errors follow no power of the step; {claimed}", None
    order, se = _slope(kept, errors.standard_error)
    text = f"{kind} {order:.2f}" + (f" ± {se:.2f}" if se > 0 else "") + f", {claimed}"
    needed = NO_ORDER if claim is None else claim - MARGIN
    if order + Z * se >= needed:
        # Is it also shown to be as large, or is it only not excluded?
        shown = order - se >= needed
        return "right" if shown else "undecided", text, (order, se)
    if claim is None:
        return "undecided", f"{text}: it does not converge to the exact result", (order, se)
    return "wrong", text, (order, se)


def _slope(points: list[tuple[int, float]], standard_error: float) -> tuple[float, float]:
    """Minus the slope of log |error| against log steps, by least squares, and its error."""
    x = [-math.log(n) for n, _ in points]
    y = [math.log(abs(e)) for _, e in points]
    # Weights of a logarithm: the inverse of its variance (se / e)^2.
    weights = [e * e for _, e in points] if standard_error > 0 else [1.0] * len(points)
    total = sum(weights)
    mean_x = sum(w * a for w, a in zip(weights, x, strict=True)) / total
    mean_y = sum(w * b for w, b in zip(weights, y, strict=True)) / total
    square = sum(w * (a - mean_x) ** 2 for w, a in zip(weights, x, strict=True))
    product = sum(w * (a - mean_x) * (b - mean_y) for w, a, b in zip(weights, x, y, strict=True))
    return product / square, standard_error / math.sqrt(square) if standard_error > 0 else 0.0


def _flow(sampler: Sampler, problem: Problem, seed: int) -> _Errors:
    """Distances to the exact flow, root mean square, relative to the data's deviation."""
    runs = [_draw(sampler, problem, ROWS, steps, seed) for steps in STEPS]
    candidates = zip(*(_flow_errors(run) for run in runs), strict=True)
    values = min(candidates, key=lambda errors: errors[-1])
    return _Errors(steps=STEPS, values=tuple(values), standard_error=0.0)


def _flow_errors(run: Drawn) -> list[float]:
    sde = run.sde
    x, t = run.first
    start = float(t[0])
    ends = (
        flow(sde, x, start, sde.t_eps),
        flow(sde, x, start, 0.0),
        denoised(sde, flow(sde, x, start, run.last_t), run.last_t),
    )
    return [float((run.x - end).square().mean().sqrt()) / STD for end in ends]


def _weak(sampler: Sampler, problem: Problem, seed: int) -> _Errors:
    """Errors of mean or variance, with noise of its own for each number of steps."""
    runs = [
        _draw(sampler, problem, STOCHASTIC_ROWS, steps, seed + i) for i, steps in enumerate(STEPS)
    ]
    # For each end: the errors of the mean and those of the variance.
    ends = [tuple(zip(*end, strict=True)) for end in zip(*map(_weak_errors, runs), strict=True)]
    nearest = min(ends, key=lambda errors: sum(abs(kind[-1]) for kind in errors))
    numbers = STOCHASTIC_ROWS * STOCHASTIC_SIZE
    both = [
        _Errors(steps=STEPS, values=values, standard_error=math.sqrt(moment / numbers))
        for values, moment in zip(nearest, (1, 2), strict=True)
    ]
    return max(both, key=lambda errors: min(map(abs, errors.values[-2:])) / errors.standard_error)


def _weak_errors(run: Drawn) -> list[tuple[float, float]]:
    """For each end: the errors of mean, in standard deviations, and variance, relative."""
    mean, variance = float(run.x.mean()), float(run.x.var())
    alpha, sigma = levels(run.sde, run.sde.t_eps)
    alpha_last, sigma_last = levels(run.sde, run.last_t)
    noisy = (alpha_last * STD) ** 2 + sigma_last**2
    ends = (
        (alpha * MEAN, (alpha * STD) ** 2 + sigma**2),
        (MEAN, STD**2),
        (MEAN, (alpha_last * STD**2) ** 2 / noisy),
    )
    return [((mean - m) / math.sqrt(v), variance / v - 1) for m, v in ends]


def _draw(sampler: Sampler, problem: Problem, rows: int, steps: int, seed: int) -> Drawn:
    return draw(sampler, problem, torch.arange(rows), seed=seed, steps=steps)
