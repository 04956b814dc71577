"""Lamba's adaptive Euler–Maruyama, as in the paper's ablation: it estimates the drift's error.

With the reverse drift F = f - g^2 score:

    x'    = x - h F(x, t)                                       Euler
    error = RMS(h/2 [F(x', t - h) - F(x, t)] / delta)           Heun minus Euler, one number a row
    error <= 1:  x <- x' + g(t) sqrt(h) z,  t <- t - h
    h <- min(t - t_eps, theta h error^-1/2)

This is `adaptive` with `improved_euler` and `extrapolation` off and another exponent; see there for
delta, the options and the rows. The drift is evaluated at x' before the noise is added, so this
score cannot be used in the next step: 2 evaluations a step. Acceptance does not depend on the
noise, so the accepted noise is unbiased.

Reference: Lamba 2003, J. Comput. Appl. Math. 161(2); Jolicoeur-Martineau et al. 2021,
arXiv:2105.14080, and the authors' sampling.py with `sde_improved_euler` and `extrapolation` False,
`exp` 0.5.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ggf_cli.solvers.adaptive import Adaptive
from ggf_cli.solvers.base import option


@dataclass(frozen=True, kw_only=True)
class Lamba(Adaptive):
    """Adaptive Euler–Maruyama whose step size follows the error of the drift only."""

    name: ClassVar[str] = "lamba"

    exponent: float = option(0.5, "r: step sizes scale with error^-r", above=0, high=10)
    extrapolation: bool = option(False, "keep Heun's point of the drift, not Euler's")
    improved_euler: bool = option(
        False, "improved Euler on drift and noise; without, on the drift, and noise is added once"
    )
