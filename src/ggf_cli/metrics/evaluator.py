"""Evaluators: one metric of samples, in one feature space, against one reference."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol

import torch
from torch import Tensor

from ggf_cli.errors import UsageError
from ggf_cli.metrics.registry import (
    METRICS,
    SPACES,
    ReferenceForm,
    spaces_of,
)
from ggf_cli.registry import Entry
from ggf_cli.scalars import as_int

if TYPE_CHECKING:
    from ggf_cli.metrics.feature_network import FeatureNetwork
    from ggf_cli.metrics.reference import Reference
    from ggf_cli.score import ScoreModel

# The maximum number of groups of samples for the standard error of a metric.
GROUPS = 20
SampleForm = Literal["images", "x"]


class FeatureSpace(Protocol):
    """A map from samples to features, with the reference that they are compared with.

    Attributes:
        sample_form: Input of `features`: "images", (N, C, H, W) in [0, 1] or uint8, or "x",
            (N, *shape), the final states of the solver.
        name: Name of the features, as in "precision, in NAME".
        min_samples: The minimum number of samples for comparing covariances.
        reference: Features of the reference.
    """

    sample_form: SampleForm
    name: str
    min_samples: int
    reference: Reference

    def features(self, samples: Tensor) -> Tensor:
        """Map samples to features (N, D) on the CPU. A row does not depend on the other rows."""

    def notes(self, n: int, reference_form: ReferenceForm) -> list[str]:
        """Return the caveats of a value from n samples, a sentence each."""


@dataclass(frozen=True)
class Floor:
    """Values of the metric for samples of the reference itself: the best that can be expected.

    Attributes:
        values: One value for each draw.
        what: The samples drawn and the reference, as in "300 test images, against 300 others".
    """

    values: list[float]
    what: str


class Evaluator:
    """Evaluates samples by one metric.

    Attributes:
        name: Key of the metric in `METRICS`.
        title, lower_is_better, digits: As in `METRICS`.
        summary: The meaning of the value, and the features.
        sample_form: Input of `evaluate`: "images", (N, C, H, W) in [0, 1] or uint8, or "x",
            (N, *shape), float.
        min_samples: The minimum number of samples.
        features: The feature space, with the features of the last samples.
    """

    def __init__(self, name: str, features: CachedFeatures) -> None:
        metric, space = METRICS[name], features.space
        self.name, self.title = name, metric.title
        self.lower_is_better, self.digits = metric.lower_is_better, metric.digits
        self.summary = metric.summary if metric.space else f"{metric.summary}, in {space.name}"
        self.sample_form = space.sample_form
        self.min_samples = max(
            metric.min_samples, space.min_samples if metric.reference_form == "moments" else 0
        )
        self.features = features
        self._reference_form, self._function = metric.reference_form, metric.load()
        self._influence = Entry(metric.influence, "").load() if metric.influence else None
        self._excess = Entry(metric.excess, "").load() if metric.excess else None

    @property
    def dimensions(self) -> int | None:
        """The number of features, if values can be extrapolated to N -> infinity; else None."""
        return None if self._excess is None else len(self.features.space.reference.moments()[0])

    def evaluate(self, samples: Tensor) -> float:
        """Compute the metric of N samples. Its expectation depends on N.

        Args:
            samples: As `sample_form` requires.

        Raises:
            UsageError: Fewer than `min_samples`, or samples of another shape, type or range, or not
                finite.
        """
        features = self.features(samples)
        if len(features) < self.min_samples:
            raise UsageError(
                f"{self.title} needs at least {self.min_samples} samples, not {len(features)}",
                hint="draw more samples",
            )
        return self._value(features, self.features.space.reference)

    def groups(self, samples: Tensor) -> list[float]:
        """Compute the metric as a mean of up to GROUPS numbers, for its standard error.

        Each number belongs to a group of consecutive samples: the value plus the mean of their
        influence, which is the jackknife pseudo-value up to terms of order 1 / N. So two sets of
        samples can be compared group by group. Without an influence function the list has the value
        alone.

        Raises:
            UsageError: As `evaluate`.
        """
        value = self.evaluate(samples)
        if self._influence is None:
            return [value]
        reference = self.features.space.reference
        influence = self._influence(self.features(samples), *reference.moments())
        return [
            value + float(part.mean())
            for part in torch.tensor_split(influence, min(GROUPS, len(influence)))
        ]

    def excess(self, samples: Tensor) -> float | None:
        """Compute how much the value exceeds its limit for many samples, on average.

        The value minus the excess is the extrapolation of the metric to N -> infinity. It may be
        negative by chance.

        Returns:
            None if there is no estimate for the metric.

        Raises:
            UsageError: As `evaluate`.
        """
        if self._excess is None:
            return None
        return float(self._excess(self.features(samples), *self.features.space.reference.moments()))

    def floor(self, n: int, draws: int) -> Floor | None:
        """Compute the metric of up to `draws` disjoint draws of n reference samples.

        Returns:
            None if the reference has too few samples, or n is less than `min_samples`.
        """
        n, draws = as_int(n, "n", low=1), as_int(draws, "draws")
        reference = self.features.space.reference
        values = [
            self._value(real, rest)
            for real, rest in reference.draws(n, draws, self._reference_form)
            if n >= self.min_samples
        ]
        if not values:
            return None
        return Floor(values, reference.draw_description(n, self._reference_form))

    def notes(self, n: int) -> list[str]:
        """Return the caveats of a value from n samples, a sentence each."""
        return self.features.space.notes(n, self._reference_form)

    def _value(self, features: Tensor, reference: Reference) -> float:
        if self._reference_form == "moments":
            return float(self._function(features, *reference.moments()))
        count = len(features) if self._reference_form == "same_size" else None
        return float(self._function(features, reference.samples(count)))


class CachedFeatures:
    """A feature space with a cache of the features of the last samples, shared by evaluators.

    The samples must not be changed between calls.
    """

    def __init__(self, space: FeatureSpace) -> None:
        self.space = space
        self._samples: Tensor | None = None
        self._features = torch.empty(0, 0)

    def __call__(self, samples: Tensor) -> Tensor:
        """Map samples to features (N, D); reuse the last result for the same tensor."""
        if samples is not self._samples:
            self._features = self.space.features(samples)
            self._samples = samples
        return self._features


def make_evaluators(
    names: Sequence[str],
    model: ScoreModel,
    *,
    reference: Path | None = None,
    device: torch.device | str = "cpu",
    network: FeatureNetwork | None = None,
    on_progress: Callable[[int, int], None] | None = None,
) -> list[Evaluator]:
    """Make an evaluator for each metric, and compute the features of the reference.

    Args:
        names: Keys of `METRICS`.
        model: The model whose samples are evaluated.
        reference: A folder of images, or an `.npz` file of statistics.
        device: Device of feature networks. Distances are computed on the CPU.
        network: A feature network in place of Inception.
        on_progress: Called with the number of reference images read so far, and of all.

    Raises:
        UsageError: Unknown metric, no reference of the model for it, or a reference that cannot be
            used.
        CheckpointError: Weights of a feature network are missing, corrupt or cannot be downloaded.
    """
    spaces = spaces_of(names, model, reference)
    features = {
        space: CachedFeatures(
            SPACES[space]
            .load()
            .open(
                model, reference=reference, device=device, network=network, on_progress=on_progress
            )
        )
        for space in dict.fromkeys(spaces.values())
    }
    return [Evaluator(name, features[spaces[name]]) for name in names]
