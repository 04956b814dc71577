"""The settings in `--config` for networks of score_sde_pytorch.

cifar10-subvp                        the training settings of this registered model
vp/cifar10_ddpm_continuous           those of this published model, by the name of its folder
sde=vp,image_size=64,fir=true        settings, named as in the configurations of score_sde_pytorch
cifar10-vp,beta_max=10               both
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ggf_cli.checkpoints.score_sde.published import PARAMETRIZATIONS
from ggf_cli.checkpoints.settings import choice, flag, number, pixels

SETTINGS: dict[str, Callable[[str], Any]] = {
    "sde": choice(*PARAMETRIZATIONS),
    "image_size": pixels,
    "model": choice("ncsnpp", "ddpm"),
    "fir": flag,
    "fir_kernel": choice("1-3-3-1"),
    "skip_rescale": flag,
    "scale_by_sigma": flag,
    "centered": flag,
    "nonlinearity": choice("swish"),
    "beta_min": number,
    "beta_max": number,
}
