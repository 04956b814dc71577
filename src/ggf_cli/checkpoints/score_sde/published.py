"""The settings that the published models of score_sde_pytorch share, by the kind of network.

The files do not state these settings. Reference: the folders configs/ve, configs/vp and
configs/subvp of score_sde_pytorch.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from ggf_cli.checkpoints.score_sde.structure import Structure

# The values of the setting sde -> the parametrization of the score.
PARAMETRIZATIONS = {
    "ve": "ve-continuous",
    "ve-discrete": "ve-discrete",
    "vp": "vp-continuous",
    "vp-discrete": "vp-discrete",
    "subvp": "vp-continuous",
}


@dataclass(frozen=True)
class NoiseLevels:
    """The noise levels in a file, from its buffer `sigmas`.

    They are those of a VE model. A VP model was trained with other levels, of the same count.
    """

    sigma_min: float
    sigma_max: float
    count: int


# Kinds of networks: (embedding, resblock, progressive_input, progressive).
_NCSNPP = ("fourier", "biggan", "input_skip", "output_skip")
_NCSNPP_CIFAR = ("fourier", "biggan", "residual", "none")
_NCSNPP_POSITIONAL = ("positional", "biggan", "residual", "none")
_DDPMPP = ("positional", "biggan", "none", "none")
_DDPM = ("positional", "ddpm", "none", "none")

# Whether a kind of network resamples with the FIR filter.
_FIR = {
    _NCSNPP: True,
    _NCSNPP_CIFAR: True,
    _NCSNPP_POSITIONAL: True,
    _DDPMPP: False,
    _DDPM: False,
}

# (kind, widths divided by the first, level with attention, residual blocks):
# image size, values of sigma_max in the files.
_MODELS = {
    (_NCSNPP, (1, 1, 2, 2, 2, 2, 2), 4, 2): (256, (348, 378, 380)),
    (_NCSNPP, (1, 2, 4, 8, 16, 32, 32, 32), 6, 1): (1024, (1348,)),
    (_NCSNPP_CIFAR, (1, 2, 2, 2), 1, 4): (32, (50,)),
    (_NCSNPP_CIFAR, (1, 2, 2, 2), 1, 8): (32, (50,)),
    (_NCSNPP_POSITIONAL, (1, 2, 2, 2), 1, 4): (32, (50,)),
    (_DDPMPP, (1, 2, 2, 2), 1, 4): (32, (50,)),
    (_DDPMPP, (1, 2, 2, 2), 1, 8): (32, (50,)),
    (_DDPM, (1, 2, 2, 2), 1, 2): (32, (50,)),
}


def published_size(structure: Structure, levels: NoiseLevels | None) -> int | None:
    """The image size of the published models with this structure; None if there are none.

    The structure may be wider or narrower than the published one by a factor.
    """
    multipliers = tuple(width / structure.channels[0] for width in structure.channels)
    attention = (level for level, has in enumerate(structure.attention) if has)
    key: tuple[Any, ...] = (_kind(structure), multipliers, *attention, structure.blocks)
    size, sigma_max = _MODELS.get(key, (None, ()))
    near = levels and any(math.isclose(levels.sigma_max, s, rel_tol=1e-4) for s in sigma_max)
    return size if near and structure.image_channels == 3 else None


def conventions(structure: Structure, sde: str, levels: NoiseLevels | None) -> dict[str, Any]:
    """The settings that all published models of this kind share.

    The keys are those of `score_sde.config.SETTINGS`. A setting that does not apply or is not
    shared is absent.
    """
    ve = sde.startswith("ve")
    settings = {
        "image_size": published_size(structure, levels),
        "fir": _FIR.get(_kind(structure)),
        "fir_kernel": "1-3-3-1",
        "skip_rescale": structure.resblock == "biggan",
        "scale_by_sigma": ve,
        "centered": not ve,
        "nonlinearity": "swish",
        "beta_min": None if ve else 0.1,
        "beta_max": None if ve else 20.0,
    }
    return {key: value for key, value in settings.items() if value is not None}


def _kind(structure: Structure) -> tuple[str, str, str, str]:
    """The kind of network, a key of `_FIR` if it was published."""
    s = structure
    return s.embedding, s.resblock, s.progressive_input, s.progressive
