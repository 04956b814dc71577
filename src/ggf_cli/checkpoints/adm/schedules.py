"""The noise schedules of OpenAI's diffusion code: parametrization and SDE of each."""

from __future__ import annotations

import math
from typing import Any

from ggf_cli.diffusions import EDM
from ggf_cli.parametrizations import log_snr_table
from ggf_cli.sde import SDE, VPSDE

# With fewer noise levels, the last beta of the linear schedule is above 1.
MIN_LEVELS, MAX_LEVELS = 21, 20_000
# The SDE of DDPM, at 1000 levels.
_DDPM = {"noise_schedule": "linear", "diffusion_steps": 1000, "predict_xstart": False}
_BETA_MIN = 0.1


def betas(schedule: str, levels: int) -> list[float]:
    """The betas of the schedule "linear" or "cosine" by rising noise.

    Reference: Nichol and Dhariwal 2021, arXiv:2102.09672, section 3.2.
    """
    if schedule == "linear":
        # Those of DDPM at 1000 levels.
        first, last = 0.1 / levels, 20 / levels
        return [first + k * (last - first) / (levels - 1) for k in range(levels)]

    def alpha_bar(t: float) -> float:
        return math.cos((t + 0.008) / 1.008 * math.pi / 2) ** 2

    return [
        min(1 - alpha_bar((k + 1) / levels) / alpha_bar(k / levels), 0.999) for k in range(levels)
    ]


def diffusion(settings: dict[str, Any]) -> tuple[str, dict[str, Any], SDE]:
    """The parametrization, its configuration and the SDE of training settings.

    A table of betas is used with the linear VP SDE that has the noise of the first level at t_eps
    and that of the last at T, so that each noise level of the solve is one of the training.
    """
    if settings["noise_schedule"] == "edm":
        return "edm", {}, EDM()
    if all(settings[key] == value for key, value in _DDPM.items()):
        return "vp-discrete", {}, VPSDE()
    levels = settings["diffusion_steps"]
    table = betas(settings["noise_schedule"], levels)
    config = {
        "betas": table,
        "prediction": "sample" if settings["predict_xstart"] else "epsilon",
        "label_scale": 1000 / levels if settings.get("rescale_timesteps") else 1.0,
    }
    # log(alpha_bar) at T is -(beta_min + beta_max) / 2.
    log_alpha_bar = math.fsum(math.log1p(-beta) for beta in table)
    sde = VPSDE(beta_min=_BETA_MIN, beta_max=-2 * log_alpha_bar - _BETA_MIN)
    t_eps = float(sde.time_at(log_snr_table(table[:2])[:1]))
    return "vp-table", config, VPSDE(beta_min=_BETA_MIN, beta_max=sde.beta_max, t_eps=t_eps)
