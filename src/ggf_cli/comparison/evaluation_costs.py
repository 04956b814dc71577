"""Measure how long metrics take, to plan a time budget."""

from __future__ import annotations

from collections.abc import Sequence
from time import perf_counter

import torch
from torch import Tensor

from ggf_cli.comparison.costs import Growth
from ggf_cli.metrics.evaluator import Evaluator
from ggf_cli.score import ScoreModel

# Draws of reference samples for the floor of a metric.
FLOOR_DRAWS = 5
# The fewest and the most samples of a measurement, and the factor between two.
FEWEST, MOST_EVALUATED, FACTOR = 64, 4096, 4
# A metric of pairs takes this many times as long with `FACTOR` times as many samples.
WORST = FACTOR**2
# Images whose features are measured first.
IMAGES = 8
# A floor that is not computed, since the reference has too few samples, takes less.
NEGLIGIBLE_S = 1e-3


def measure_evaluation(
    evaluators: Sequence[Evaluator], model: ScoreModel, *, seconds: float, most: int
) -> tuple[Growth, Growth]:
    """Measure the time of evaluating n samples, and that of the floors, for about `seconds`.

    The samples are noise: the time does not depend on their content. At least one number of samples
    is measured, the fewest of the metrics, unless their features alone would take too long.

    Args:
        evaluators: The metrics.
        model: The model whose samples are evaluated.
        seconds: The time for measuring.
        most: The largest number of samples to measure.
    """
    if not evaluators:
        return Growth(), Growth()
    start = perf_counter()
    least = max(evaluator.min_samples for evaluator in evaluators)
    n = max(least, min(FEWEST, most))
    a_row = _seconds_of_features(evaluators, model)
    if a_row * n > seconds:
        # Metrics of features take the time of their floor.
        floor = _seconds_of_floors(evaluators, n)
        growth = Growth.through([(n, floor)])
        return Growth(c0=growth.c0, c1=growth.c1 + a_row, c2=growth.c2), _times(growth, FLOOR_DRAWS)
    points, floors = list[tuple[int, float]](), list[tuple[int, float]]()
    last = 0.0
    while not points or (n <= most and WORST * last < seconds - (perf_counter() - start)):
        last = _seconds_of_groups(evaluators, model, n)
        # The first call takes longer.
        if not points and 3 * last < seconds - (perf_counter() - start):
            last = _seconds_of_groups(evaluators, model, n)
        points.append((n, last))
        if (floor := _seconds_of_floors(evaluators, n)) > NEGLIGIBLE_S:
            floors.append((n, floor))
        n *= FACTOR
    return Growth.through(points), _times(Growth.through(floors), FLOOR_DRAWS)


def _seconds_of_features(evaluators: Sequence[Evaluator], model: ScoreModel) -> float:
    """The time of the features of one sample, of all feature spaces."""
    spaces = {id(evaluator.features): evaluator for evaluator in evaluators}
    total = 0.0
    for evaluator in spaces.values():
        # The first call takes longer.
        for _ in range(2):
            samples = _samples(evaluator, model, IMAGES)
            start = perf_counter()
            evaluator.features(samples)
            seconds = perf_counter() - start
        total += seconds / IMAGES
    return total


def _seconds_of_groups(evaluators: Sequence[Evaluator], model: ScoreModel, n: int) -> float:
    """The time of evaluating n samples by all metrics."""
    # Metrics of one form share the samples, and so their features.
    samples = {evaluator.sample_form: _samples(evaluator, model, n) for evaluator in evaluators}
    start = perf_counter()
    for evaluator in evaluators:
        evaluator.groups(samples[evaluator.sample_form])
        evaluator.excess(samples[evaluator.sample_form])
    return perf_counter() - start


def _seconds_of_floors(evaluators: Sequence[Evaluator], n: int) -> float:
    """The time of one draw of n reference samples for the floors of all metrics."""
    start = perf_counter()
    for evaluator in evaluators:
        evaluator.floor(n, 1)
    return perf_counter() - start


def _samples(evaluator: Evaluator, model: ScoreModel, n: int) -> Tensor:
    """Noise in the form that a metric takes."""
    generator = torch.Generator().manual_seed(0)
    if evaluator.sample_form == "images" and model.data_range is not None:
        return torch.randint(0, 256, (n, *model.shape), dtype=torch.uint8, generator=generator)
    return torch.randn(n, *model.shape, generator=generator)


def _times(growth: Growth, factor: float) -> Growth:
    return Growth(c0=factor * growth.c0, c1=factor * growth.c1, c2=factor * growth.c2)
