"""What features are compared with: real ones, of which there are so many, or exact ones, of which there are any number."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from typing import Any, Protocol

import torch
from torch import Tensor

from ggf_cli.metrics.frechet import moments
from ggf_cli.metrics.registry import Against

Moments = tuple[Tensor, Tensor]


class Reference(Protocol):
    """Features of D numbers that samples should have."""

    def moments(self) -> Moments:
        """Mean (D,) and covariance (D, D), float64."""

    def samples(self, n: int | None) -> Tensor:
        """Always the same n of them, or all there are if these are fewer or n is None: (M, D)."""

    def draws(self, n: int, draws: int, against: Against) -> Iterator[tuple[Tensor, Reference]]:
        """Up to `draws` times n features that are no samples drawn by a solver, and a reference that is independent of them.

        No feature is drawn twice. There are none if there are too few to draw from.
        """

    def describe_draws(self, n: int, against: Against) -> str:
        """What is drawn, and what it is compared with, in a few words."""


class Real:
    """Features of real samples, in an order that means nothing.

    Args:
        features: (M, D); M may be 0.
        known: Mean and covariance of other real samples, which stand in for those of the features.
        what: What the features are of ("test images").
        known_of: What the known moments are of.
    """

    def __init__(
        self, features: Tensor, *, what: str, known: Moments | None = None, known_of: str = ""
    ) -> None:
        self.features, self.what, self.known, self.known_of = features, what, known, known_of

    @cached_property
    def _own(self) -> Moments:
        return moments(self.features)

    def moments(self) -> Moments:
        """The known ones, or those of all features."""
        return self.known or self._own

    def samples(self, n: int | None) -> Tensor:
        """The first n."""
        return self.features[:n]

    def draws(self, n: int, draws: int, against: Against) -> Iterator[tuple[Tensor, Reference]]:
        """From the end, each against all others; n others remain at least, unless the known moments are all it takes."""
        count = len(self.features)
        spare = 0 if self._apart(against) else n
        for draw in range(min(draws, (count - spare) // n)):
            stop = count - draw * n
            rest = torch.cat([self.features[: stop - n], self.features[stop:]])
            yield (
                self.features[stop - n : stop],
                Real(rest, what=self.what, known=self.known, known_of=self.known_of),
            )

    def describe_draws(self, n: int, against: Against) -> str:
        """As the protocol says."""
        if self._apart(against):
            return f"{n:,} {self.what}, against {self.known_of}"
        others = n if against == "as many" else len(self.features) - n
        return f"{n:,} {self.what}, against {others:,} others"

    def _apart(self, against: Against) -> bool:
        """Whether what is compared with is of other samples than `features` anyway."""
        return against == "moments" and self.known is not None


class Exact:
    """Samples of a distribution that is known exactly, as features (N, D).

    Args:
        distribution: With `sample` and `moments`, see `ggf_cli.metrics.pixels.Distribution`.
        device: Where it draws.
    """

    _SEED, _DRAWS_SEED = 1, 2  # the draws count on from theirs

    def __init__(self, distribution: Any, device: torch.device | str = "cpu") -> None:
        self.distribution, self.device = distribution, device

    @cached_property
    def _moments(self) -> Moments:
        mean, covariance = self.distribution.moments()
        return mean.cpu().double(), covariance.cpu().double()

    def moments(self) -> Moments:
        """The exact ones."""
        return self._moments

    def samples(self, n: int | None) -> Tensor:
        """Fresh exact samples."""
        assert n is not None, "there is no end of them"
        return self._sample(n, self._SEED)

    def draws(self, n: int, draws: int, against: Against) -> Iterator[tuple[Tensor, Reference]]:
        """As many as asked for."""
        for draw in range(draws):
            yield self._sample(n, self._DRAWS_SEED + draw), self

    def describe_draws(self, n: int, against: Against) -> str:
        """As the protocol says."""
        to = "the exact moments" if against == "moments" else f"{n:,} others"
        return f"{n:,} exact samples, against {to}"

    def _sample(self, n: int, seed: int) -> Tensor:
        generator = torch.Generator(self.device).manual_seed(seed)
        x: Tensor = self.distribution.sample(n, generator)
        return x.flatten(1).cpu()
