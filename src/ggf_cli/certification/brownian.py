"""Increments of one Brownian path over noise levels, for code that asks for overlapping intervals.

A new level outside the known part of the path adds an independent increment. Between two known
levels a < b it is drawn from the Brownian bridge (s = level):

    W(s) ~ N(W(a) + (s - a) / (b - a) (W(b) - W(a)),   (s - a) (b - s) / (b - a))
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from ggf_cli.errors import UsageError

# Two levels are one if they differ by less, relatively: exp(log(sigma)) in float32.
SAME = 1e-6


class BrownianNoise:
    """Increments (W(b) - W(a)) / sqrt(|b - a|) of one path for each row, each standard normal.

    The interval may only move downwards: levels above it are forgotten.

    Args:
        noise: Returns the next standard normal numbers of each row, (B, *).
        like: A tensor of the shape of the increments, (B, *).
    """

    def __init__(self, noise: Callable[[], Tensor], like: Tensor) -> None:
        self._noise = noise
        self._origin = torch.zeros_like(like)
        # Known points (level, W) of the path, from the lowest level on.
        self._path: list[tuple[float, Tensor]] = []
        self._forgotten = math.inf

    def __call__(self, sigma: Tensor | float, sigma_next: Tensor | float) -> Tensor:
        """The normalised increment from the level sigma to sigma_next, (B, *).

        Raises:
            UsageError: The interval is above levels of an earlier call.
        """
        start, end = float(sigma), float(sigma_next)
        top = max(start, end)
        if top >= self._forgotten:
            raise UsageError(
                f"the sampler asks for noise at the level {top:.6g} again, after lower levels"
            )
        begun = self._value(start)
        increment = (self._value(end) - begun) / math.sqrt(abs(end - start))
        above = [level for level, _ in self._path if level > top * (1 + SAME)]
        self._forgotten = min([self._forgotten, *above])
        self._path = [point for point in self._path if point[0] not in above]
        return increment

    def _value(self, level: float) -> Tensor:
        """W at a level, which becomes a known point."""
        for known, value in self._path:
            if math.isclose(known, level, rel_tol=SAME):
                return value
        below = [point for point in self._path if point[0] < level]
        above = self._path[len(below) :]
        if below and above:
            (low, w_low), (high, w_high) = below[-1], above[0]
            share = (level - low) / (high - low)
            deviation = math.sqrt(share * (high - level))
            value = torch.lerp(w_low, w_high, share) + deviation * self._noise()
        elif self._path:
            edge, w_edge = above[0] if above else below[-1]
            value = w_edge + math.sqrt(abs(level - edge)) * self._noise()
        else:
            value = self._origin
        self._path = [*below, (level, value), *above]
        return value
