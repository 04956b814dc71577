"""Step size control: the scaled error, the next step size, and sums of Runge–Kutta stages.

Pure functions; rows do not affect each other. On a CPU, torch's exp, log, sqrt, sin and cos of a
number do not depend on its position in the tensor. pow and sigmoid do (the vectorised part and the
rest round differently), so no solver uses these on a quantity of a row, nor torch's sums over a row
(see `reduction`).

Reference: Jolicoeur-Martineau et al. 2021, arXiv:2105.14080, Algorithm 1.
"""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor

from ggf_cli.solvers.reduction import root_mean_square


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
        error = sqrt(mean((difference / delta)^2))              "l2", over all but the row axis
        error = max |difference / delta|                        "linf"

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
    ratio = difference / delta
    return ratio.flatten(1).abs().amax(1) if norm == "linf" else root_mean_square(ratio)


def time_after(t: Tensor, h: Tensor, t_eps: float) -> Tensor:
    """t - h, all (B,), but t_eps to the bit where the step reaches it."""
    return torch.where(h >= t - t_eps, t_eps, t - h)


def next_step_size(
    h: Tensor, error: Tensor, remaining: Tensor, *, safety: float, exponent: float
) -> Tensor:
    """min(remaining, safety * h * error^-exponent), all (B,).

    For an error of exactly 0 the result is all that remains.
    """
    # exp and log, not pow: see above.
    return torch.minimum(remaining, safety * h * torch.exp(-exponent * torch.log(error)))


def pid_factor(errors: Tensor, *, p: float, i: float, d: float, order: float) -> Tensor:
    """The factor of a PID controller on the step size, (B,), in (1 - pi/4, 1 + pi/2).

        w   = (errors + 1e-8)^-1
        raw = (w_0^(p + i + d) w_1^-(p + 2 d) w_2^d)^(1 / order)
        1 + atan(raw - 1)

    Args:
        errors: Errors of this attempt and of the last two accepted ones, the latest first, (B, 3).
        p: Proportional coefficient.
        i: Integral coefficient.
        d: Derivative coefficient.
        order: Order of the method.

    Reference: Söderlind 2003, ACM Trans. Math. Softw. 29(1), with the limiter of Söderlind and Wang
    2006, J. Comput. Appl. Math. 185(2); the form, 1e-8 included, is k-diffusion's.
    """
    w_0, w_1, w_2 = (-torch.log(errors + 1e-8) / order).unbind(1)
    raw = torch.exp((p + i + d) * w_0 - (p + 2 * d) * w_1 + d * w_2)
    return 1 + torch.atan(raw - 1)


Coefficients = tuple[tuple[float, ...], ...]


def coefficients(table: Coefficients, like: Tensor) -> Tensor:
    """A table as a tensor with the device and dtype of `like`; table[stage] is (B, columns)."""
    return _coefficients(table, like.device, like.dtype)


@lru_cache(maxsize=64)
def _coefficients(table: Coefficients, device: torch.device, dtype: torch.dtype) -> Tensor:
    return torch.tensor(table, device=device, dtype=dtype)


def weighted_sum(weights: Tensor, stages: Tensor) -> Tensor:
    """The sum of weights[b, j] stages[b, j] over j, for each row: (B, S), (B, S, *) -> (B, *)."""
    # Term by term: a matrix product may round a row differently in another batch.
    weights = weights.to(stages.dtype).reshape(*weights.shape, *(1,) * (stages.dim() - 2))
    total = weights[:, 0] * stages[:, 0]
    for j in range(1, stages.shape[1]):
        total = total + weights[:, j] * stages[:, j]
    return total


def put_stage(stages: Tensor, stage: Tensor, value: Tensor) -> Tensor:
    """Set stages[b, stage[b]] to value[b], unless stage[b] >= S: (B, S, *), (B,), (B, *)."""
    slots = torch.arange(stages.shape[1], device=stage.device)
    here = (slots == stage[:, None]).reshape(*stages.shape[:2], *(1,) * (stages.dim() - 2))
    return torch.where(here, value[:, None], stages)
