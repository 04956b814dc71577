"""A Brownian path that is drawn piece by piece; parts of earlier draws are Brownian bridges.

For solvers that reject steps: the shorter step after a rejection must use the same path. For a
stretch of length h two numbers an element are stored: the increment W over it and the average J of
the path over it.

Reference: Rackauckas and Nie 2017, doi 10.3934/dcdsb.2017133.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from ggf_cli.sde import expand_as_batch
from ggf_cli.solvers.base import where_rows


class Span(NamedTuple):
    """A stretch of a Brownian path, for each row.

    Attributes:
        h: Its length, (B,).
        w: The increment over it, (B, *).
        j: The average of the path over it, counted from its start, (B, *).
    """

    h: Tensor
    w: Tensor
    j: Tensor


def extend(seen: Span, h: Tensor, z_1: Tensor, z_2: Tensor) -> tuple[Span, Span, Span]:
    """Draw the next stretch of length h of a Brownian path, given the part that is drawn already.

    Args:
        seen: The part of the path that is drawn already; of length 0 if there is none.
        h: Length of the stretch, (B,), > 0.
        z_1: Standard normal noise, (B, *).
        z_2: The same, independent of z_1.

    Returns:
        The stretch of length h; the drawn part as seen from its start; the drawn part as seen from
        its end.
    """
    # One piece is drawn: the first h of the drawn part, or the piece after it.
    inside = h < seen.h
    piece = _draw(torch.where(inside, h, h - seen.h), seen, inside, z_1, z_2)
    joined = _join(seen, piece)
    path = where_span(inside, piece, joined)
    nothing = Span(*map(torch.zeros_like, seen))
    return path, where_span(inside, seen, joined), where_span(inside, _rest(seen, piece), nothing)


def where_span(condition: Tensor, yes: Span, no: Span) -> Span:
    """Select `yes` for each row where the condition (B,) holds, else `no`."""
    return Span(*(where_rows(condition, y, n) for y, n in zip(yes, no, strict=True)))


def _draw(h: Tensor, seen: Span, inside: Tensor, z_1: Tensor, z_2: Tensor) -> Span:
    """Draw the first h of `seen` given the whole, for rows that are `inside`; else a new piece.

    (W, J) is Gaussian. The mean of the integral of the path is the cubic through its known ends;
    with p = h / seen.h and q = 1 - p the covariance is

        Var W = h q (1 - 3 p q),    Var J = h q^3 / 3,    Cov(W, J) = h q^2 (1 - 2 p) / 2

    and p = 0, the start of an endless bridge, is free motion.
    """
    p = torch.where(inside, h / seen.h, 0.0)
    q = 1 - p
    root = torch.sqrt(h * q)
    w = times(p * (3 * p - 2), seen.w) + times(6 * p * q, seen.j)
    j = times(-p * q, seen.w) + times(p * (3 - 2 * p), seen.j)
    w = w + times(root * (1 - 2 * p) * math.sqrt(3) / 2, z_1) + times(root / 2, z_2)
    j = j + times(root * q / math.sqrt(3), z_1)
    return Span(h, w, j)


def _join(first: Span, second: Span) -> Span:
    """Join two consecutive stretches."""
    h = first.h + second.h
    j = times(first.h / h, first.j) + times(second.h / h, first.w + second.j)
    return Span(h, first.w + second.w, j)


def _rest(whole: Span, first: Span) -> Span:
    """The part of `whole` after the stretch `first`."""
    h = whole.h - first.h
    j = times(whole.h / h, whole.j) - times(first.h / h, first.j) - first.w
    return Span(h, whole.w - first.w, j)


def times(factor: Tensor, x: Tensor) -> Tensor:
    """factor (B,) times x (B, *)."""
    return expand_as_batch(factor, x) * x
