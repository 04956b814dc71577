"""References: the features that samples are compared with.

`RealReference` holds a finite set of features of real samples, `ExactReference` draws any number
from a distribution that is known exactly.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from typing import Protocol

import torch
from torch import Tensor

from ggf_cli.metrics.frechet import moments
from ggf_cli.metrics.registry import ReferenceForm

Moments = tuple[Tensor, Tensor]


class Distribution(Protocol):
    """A distribution of samples of D numbers that is known exactly."""

    def sample(self, n: int, generator: torch.Generator | None = None) -> Tensor:
        """Draw exact samples, (n, *shape)."""

    def moments(self) -> Moments:
        """Return the exact mean (D,) and covariance (D, D)."""


class Reference(Protocol):
    """Features (M, D) of samples that no solver has drawn."""

    def moments(self) -> Moments:
        """Return the mean (D,) and covariance (D, D), float64."""

    def samples(self, n: int | None) -> Tensor:
        """Return min(n, M) features, (min(n, M), D); None: all M. The same ones in every call."""

    def draws(
        self, n: int, draws: int, reference_form: ReferenceForm
    ) -> Iterator[tuple[Tensor, Reference]]:
        """Yield up to `draws` pairs of n features (n, D) and a reference independent of them.

        No feature is in two draws. Yields nothing if there are too few features.

        Args:
            n: The number of features in a draw.
            draws: The number of draws.
            reference_form: What the metric takes of the reference.
        """

    def draw_description(self, n: int, reference_form: ReferenceForm) -> str:
        """Name what a draw has and what it is compared with, in a few words."""


class RealReference:
    """Features of real samples, in random order.

    Args:
        features: (M, D), M >= 0.
        name: Name of the samples ("test images").
        given_moments: Mean (D,) and covariance (D, D) of other real samples, used in place of the
            moments of `features`.
        given_moments_of: Name of those other samples.
    """

    def __init__(
        self,
        features: Tensor,
        *,
        name: str,
        given_moments: Moments | None = None,
        given_moments_of: str = "",
    ) -> None:
        self.features, self.name = features, name
        self.given_moments, self.given_moments_of = given_moments, given_moments_of

    @cached_property
    def _own_moments(self) -> Moments:
        return moments(self.features)

    def moments(self) -> Moments:
        """Return the given moments, or else those of all features."""
        return self.given_moments or self._own_moments

    def samples(self, n: int | None) -> Tensor:
        """Return the first n features, or all."""
        return self.features[:n]

    def draws(
        self, n: int, draws: int, reference_form: ReferenceForm
    ) -> Iterator[tuple[Tensor, Reference]]:
        """Yield draws from the end of the features, each with all others as its reference.

        At least n others remain, unless only the given moments are compared with.
        """
        count = len(self.features)
        kept = 0 if self._uses_given_moments(reference_form) else n
        for draw in range(min(draws, (count - kept) // n)):
            stop = count - draw * n
            rest = torch.cat([self.features[: stop - n], self.features[stop:]])
            yield (
                self.features[stop - n : stop],
                RealReference(
                    rest,
                    name=self.name,
                    given_moments=self.given_moments,
                    given_moments_of=self.given_moments_of,
                ),
            )

    def draw_description(self, n: int, reference_form: ReferenceForm) -> str:
        """Name what a draw has and what it is compared with, see `Reference`."""
        if self._uses_given_moments(reference_form):
            return f"{n:,} {self.name}, against {self.given_moments_of}"
        others = n if reference_form == "same_size" else len(self.features) - n
        return f"{n:,} {self.name}, against {others:,} others"

    def _uses_given_moments(self, reference_form: ReferenceForm) -> bool:
        """Whether the metric compares with moments of samples that are not in `features`."""
        return reference_form == "moments" and self.given_moments is not None


class ExactReference:
    """Samples of a distribution that is known exactly; the features are the samples, flattened.

    Args:
        distribution: The distribution.
        device: Device of the random generator and of the draws.
    """

    # Draw i of `draws` has seed _DRAWS_SEED + i.
    _SEED, _DRAWS_SEED = 1, 2

    def __init__(self, distribution: Distribution, device: torch.device | str = "cpu") -> None:
        self.distribution, self.device = distribution, device

    @cached_property
    def _moments(self) -> Moments:
        mean, covariance = self.distribution.moments()
        return mean.cpu().double(), covariance.cpu().double()

    def moments(self) -> Moments:
        """Return the exact mean (D,) and covariance (D, D), float64."""
        return self._moments

    def samples(self, n: int | None) -> Tensor:
        """Draw n exact samples with a fixed seed, (n, D)."""
        assert n is not None, "an exact reference has no finite set of all samples"
        return self._sample(n, self._SEED)

    def draws(
        self, n: int, draws: int, reference_form: ReferenceForm
    ) -> Iterator[tuple[Tensor, Reference]]:
        """Yield `draws` independent draws."""
        for draw in range(draws):
            yield self._sample(n, self._DRAWS_SEED + draw), self

    def draw_description(self, n: int, reference_form: ReferenceForm) -> str:
        """Name what a draw has and what it is compared with, see `Reference`."""
        to = "the exact moments" if reference_form == "moments" else f"{n:,} others"
        return f"{n:,} exact samples, against {to}"

    def _sample(self, n: int, seed: int) -> Tensor:
        generator = torch.Generator(self.device).manual_seed(seed)
        x: Tensor = self.distribution.sample(n, generator)
        return x.flatten(1).cpu()
