"""Compute the noise levels of a discrete diffusers model from the betas of its scheduler.

Every formula is evaluated in float32 as diffusers does, because networks were trained at the levels
that result: near the data, rounding moves a level by up to a thousandth.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from ggf_cli.checkpoints.diffusers.configs import Config
from ggf_cli.errors import CheckpointError

# Bounds the size of files. Published models have up to 4000 levels.
MAX_LEVELS = 20_000
# The largest beta of a schedule that is given by its alpha_bar.
_MAX_BETA = 0.999

SCHEDULES = ("linear", "scaled_linear", "sigmoid", "squaredcos_cap_v2", "exp", "laplace")


def trained_levels(config: Config) -> list[float]:
    """The betas of the levels that a model was trained at, such that sigma_k is that of diffusers.

    Differs from the betas of the scheduler by the rounding of its `alphas_cumprod`. The last beta
    is 1 if the last level has no data left.

    Args:
        config: The configuration of a scheduler with betas.

    Raises:
        CheckpointError: A key is not valid; the message names it.
    """
    keys, betas = _betas(config)
    if config["rescale_betas_zero_snr"]:
        betas = _with_zero_snr(betas)
    alpha_bar = torch.cumprod(1 - betas, 0).double()
    before = torch.cat([torch.ones(1, dtype=torch.float64), alpha_bar[:-1]])
    found: list[float] = (1 - alpha_bar / before).tolist()
    # NaN is refused too.
    if not (all(0 < beta < 1 for beta in found[:-1]) and 0 < found[-1] <= 1):
        raise CheckpointError(
            f"{config.file}: {keys} give noise levels that float32 cannot tell apart",
            hint="each level must have more noise than the one before",
        )
    return found


def levels_count(config: Config) -> int:
    """The number of noise levels, `num_train_timesteps`."""
    count = config["num_train_timesteps"]
    if type(count) is not int or not 2 <= count <= MAX_LEVELS:
        raise config.refused("num_train_timesteps", f"a whole number in 2..{MAX_LEVELS}")
    return count


def given_betas(config: Config) -> list[float]:
    """The list `trained_betas`, one number in (0, 1) for each level."""
    betas, count = config["trained_betas"], levels_count(config)
    if not isinstance(betas, list) or len(betas) != count:
        length = f"; it has {len(betas)}" if isinstance(betas, list) else ""
        raise CheckpointError(
            f"{config.file}: trained_betas must be a list of num_train_timesteps = {count} numbers"
            f" or null{length}",
            hint="set num_train_timesteps to the number of noise levels of the training",
        )
    if not all(is_beta(beta) for beta in betas):
        raise CheckpointError(f"{config.file}: trained_betas has a number outside of (0, 1)")
    return [float(beta) for beta in betas]


def _betas(config: Config) -> tuple[str, Tensor]:
    """The keys that state the betas, and the betas (K,) in float32, before rescaling."""
    if config["trained_betas"] is not None:
        return "trained_betas", torch.tensor(given_betas(config), dtype=torch.float32)
    config.require("beta_schedule", *SCHEDULES)
    count, schedule = levels_count(config), config["beta_schedule"]
    if schedule in _ALPHA_BARS:
        return "beta_schedule and num_train_timesteps", _by_alpha_bar(count, _ALPHA_BARS[schedule])
    start, end = config["beta_start"], config["beta_end"]
    if not (is_beta(start) and is_beta(end)):
        raise CheckpointError(
            f"{config.file}: beta_start and beta_end are {start!r:.60} and {end!r:.60}, they must"
            " lie in (0, 1)"
        )
    if schedule == "linear":
        betas = torch.linspace(start, end, count, dtype=torch.float32)
    elif schedule == "scaled_linear":
        betas = torch.linspace(start**0.5, end**0.5, count, dtype=torch.float32) ** 2
    else:
        steps = torch.linspace(-6, 6, count, dtype=torch.float32)
        betas = torch.sigmoid(steps) * (end - start) + start
    return "beta_start and beta_end", betas


def is_beta(value: object) -> bool:
    """Whether a value of a configuration is a number in (0, 1)."""
    return type(value) in (int, float) and 0 < value < 1  # type: ignore[operator]


def _cosine(t: float) -> float:
    """Nichol and Dhariwal 2021, arXiv:2102.09672."""
    return math.cos((t + 0.008) / 1.008 * math.pi / 2) ** 2


def _exponential(t: float) -> float:
    return math.exp(-12 * t)


def _laplace(t: float) -> float:
    """Hang et al. 2024, arXiv:2407.03297, as in diffusers: sqrt(snr / (1 + snr))."""
    away = abs(0.5 - t)
    snr = math.exp(-0.5 * math.copysign(1, 0.5 - t) * math.log(1 - 2 * away + 1e-6))
    return math.sqrt(snr / (1 + snr))


_ALPHA_BARS: dict[str, Callable[[float], float]] = {
    "squaredcos_cap_v2": _cosine,
    "exp": _exponential,
    "laplace": _laplace,
}


def _by_alpha_bar(count: int, alpha_bar: Callable[[float], float]) -> Tensor:
    """Betas (K,) whose product up to level k is alpha_bar((k + 1) / K), up to `_MAX_BETA`."""
    levels = [alpha_bar(k / count) for k in range(count + 1)]
    betas = [min(1 - levels[k + 1] / levels[k], _MAX_BETA) for k in range(count)]
    return torch.tensor(betas, dtype=torch.float32)


def _with_zero_snr(betas: Tensor) -> Tensor:
    """Betas whose last level has no data left and whose first level is unchanged.

    Reference: Lin et al. 2023, arXiv:2305.08891, algorithm 1.
    """
    root = torch.cumprod(1 - betas, 0).sqrt()
    first, last = root[0].clone(), root[-1].clone()
    root = (root - last) * (first / (first - last))
    alpha_bar = root**2
    alphas = torch.cat([alpha_bar[:1], alpha_bar[1:] / alpha_bar[:-1]])
    return 1 - alphas
