"""Error control of one attempt: how large is the error, and what step comes next.

Pure functions, one number a row; rows do not affect each other. Reference: Jolicoeur-Martineau et al. 2021,
arXiv:2105.14080, Algorithm 1.
"""

from __future__ import annotations

import torch
from torch import Tensor


def scaled_error(
    x_low: Tensor,
    difference: Tensor,
    reference: Tensor,
    *,
    eps_abs: float,
    eps_rel: float,
    norm: str = "l2",
) -> Tensor:
    """Local error of one attempt in units of the tolerance, for each row.

        delta = max(eps_abs, eps_rel * max(|x_low|, |reference|))      elementwise
        error = sqrt(mean((difference / delta)^2))                     "l2", over all but the row axis
        error = max |difference / delta|                               "linf"

    An attempt is acceptable when its error is at most 1.

    Args:
        x_low: Euler–Maruyama proposal x', (B, *).
        difference: Improved Euler proposal minus x_low, x'' - x', (B, *).
        reference: x'_prev, the last accepted x', (B, *); pass x_low for none.
        eps_abs: Absolute tolerance, > 0, in units of x.
        eps_rel: Relative tolerance, > 0.
        norm: "l2" (scaled: root mean square) or "linf".

    Returns:
        The error, (B,), >= 0; NaN where a proposal is not finite.
    """
    delta = torch.maximum(x_low.abs(), reference.abs()).mul_(eps_rel).clamp_(min=eps_abs)
    ratio = (difference / delta).flatten(1)
    if norm == "linf":
        return ratio.abs().amax(1)
    return ratio.square().mean(1).sqrt()


def next_step_size(
    h: Tensor, error: Tensor, remaining: Tensor, *, safety: float, exponent: float
) -> Tensor:
    """min(remaining, safety * h * error^-exponent), all (B,).

    An error of exactly 0 asks for an infinite step and gets all that remains.
    """
    # exp and log, not pow: see ggf_cli.noise on which functions keep rows independent of each other.
    return torch.minimum(remaining, safety * h * torch.exp(-exponent * torch.log(error)))
