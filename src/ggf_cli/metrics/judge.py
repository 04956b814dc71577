"""A judge: one metric, in one space, of one model's samples."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol

import torch
from torch import Tensor

from ggf_cli.errors import UsageError
from ggf_cli.metrics import METRICS, Against
from ggf_cli.registry import Entry
from ggf_cli.scalars import as_int

if TYPE_CHECKING:
    from ggf_cli.metrics.reference import Reference


GROUPS = 20


class View(Protocol):
    """How samples are seen, and what they are compared with.

    Attributes:
        wants: Which form of samples: "images" (N, C, H, W) in [0, 1] or uint8, or "x" (N, *shape), as the solver left them.
        what: What the features are, after "in".
        fewest: The fewest samples whose covariance is worth comparing.
        reference: Of the same features.
    """

    wants: Literal["images", "x"]
    what: str
    fewest: int
    reference: Reference

    def features(self, piece: Tensor) -> Tensor:
        """Samples -> (N, D) on the CPU; a row's do not depend on the other rows."""

    def notes(self, n: int, against: Against) -> list[str]:
        """What must be said beside a value from n samples, a sentence each."""


@dataclass(frozen=True)
class Floor:
    """What real samples get.

    Attributes:
        values: One for each draw.
        what: What was drawn, and what it was compared with.
    """

    values: list[float]
    what: str


class Judge:
    """Judges pieces of samples by one metric.

    Attributes:
        name: In the table `METRICS`.
        title, lower_is_better, digits: As there.
        summary: What the number says, and in which features.
        wants: The form in which it takes samples: "images", (N, C, H, W) in [0, 1] or uint8, or "x", (N, *shape), float.
        min_samples: The fewest it judges.
    """

    def __init__(self, name: str, seen: Seen) -> None:
        metric, view = METRICS[name], seen.view
        self.name, self.title = name, metric.title
        self.lower_is_better, self.digits = metric.lower_is_better, metric.digits
        self.summary = metric.summary if metric.space else f"{metric.summary}, in {view.what}"
        self.wants = view.wants
        self.min_samples = max(metric.fewest, view.fewest if metric.against == "moments" else 0)
        self._against, self._function, self._seen = metric.against, metric.load(), seen
        self._influence = Entry(metric.influence, "").load() if metric.influence else None

    def judge(self, piece: Tensor) -> float:
        """One number for N samples; it depends on N.

        Raises:
            UsageError: Fewer than `min_samples`, not finite, or not samples of this kind.
        """
        features = self._seen.features(piece)
        if len(features) < self.min_samples:
            raise UsageError(
                f"{self.title} needs at least {self.min_samples} samples, not {len(features)}",
                hint="draw more",
            )
        return self._value(features, self._seen.view.reference)

    def groups(self, piece: Tensor) -> list[float]:
        """The value as a mean of up to GROUPS numbers, whose standard error is its own; the value alone where that is not known.

        Each belongs to so many consecutive samples: value + the mean of their influence. Values of two pieces can so be
        compared group by group. Linear in 1 / N, as jackknife pseudo-values are, at the cost of one more evaluation.
        """
        value = self.judge(piece)
        if self._influence is None:
            return [value]
        moved = self._influence(self._seen.features(piece), *self._seen.view.reference.moments())
        return [
            value + float(part.mean())
            for part in torch.tensor_split(moved, min(GROUPS, len(moved)))
        ]

    def floor(self, n: int, draws: int) -> Floor | None:
        """What real (or exact) samples get, in up to `draws` disjoint draws of n; None where there are too few."""
        n, draws = as_int(n, "n", low=1), as_int(draws, "draws")
        reference = self._seen.view.reference
        values = [
            self._value(real, rest)
            for real, rest in reference.draws(n, draws, self._against)
            if n >= self.min_samples
        ]
        return Floor(values, reference.describe_draws(n, self._against)) if values else None

    def notes(self, n: int) -> list[str]:
        """What must be said beside a value from n samples, a sentence each."""
        return self._seen.view.notes(n, self._against)

    def _value(self, features: Tensor, reference: Reference) -> float:
        if self._against == "moments":
            return float(self._function(features, *reference.moments()))
        count = len(features) if self._against == "as many" else None
        return float(self._function(features, reference.samples(count)))


class Seen:
    """A view and what it saw last, so that the judges of one view look at a piece once; it must not be altered meanwhile."""

    def __init__(self, view: View) -> None:
        self.view = view
        self._piece: Tensor | None = None
        self._features = torch.empty(0, 0)

    def features(self, piece: Tensor) -> Tensor:
        """Those of the view."""
        if piece is not self._piece:
            self._features = self.view.features(piece)
            self._piece = piece
        return self._features
