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

# A network: kind, widths divided by the first, level with attention, residual blocks.
_Key = tuple[tuple[str, str, str, str], tuple[float, ...], int, int]
_256: _Key = (_NCSNPP, (1, 1, 2, 2, 2, 2, 2), 4, 2)
_1024: _Key = (_NCSNPP, (1, 2, 4, 8, 16, 32, 32, 32), 6, 1)


def _cifar(kind: tuple[str, str, str, str], blocks: int) -> _Key:
    return kind, (1, 2, 2, 2), 1, blocks


_SIZES = {_256: 256, _1024: 1024}

# The published models, by the name of their folder: network, sigma_max in the file, setting sde.
# VP models have the sigma_max of the default configuration in their files.
PUBLISHED: dict[str, tuple[_Key, float, str]] = {
    "ve/cifar10_ncsnpp": (_cifar(_NCSNPP_POSITIONAL, 4), 50, "ve-discrete"),
    "ve/cifar10_ncsnpp_continuous": (_cifar(_NCSNPP_CIFAR, 4), 50, "ve"),
    "ve/cifar10_ncsnpp_deep_continuous": (_cifar(_NCSNPP_CIFAR, 8), 50, "ve"),
    "ve/bedroom_ncsnpp_continuous": (_256, 378, "ve"),
    "ve/church_ncsnpp_continuous": (_256, 380, "ve"),
    "ve/ffhq_256_ncsnpp_continuous": (_256, 348, "ve"),
    "ve/celebahq_256_ncsnpp_continuous": (_256, 348, "ve"),
    "ve/ffhq_1024_ncsnpp_continuous": (_1024, 1348, "ve"),
    "vp/cifar10_ddpm": (_cifar(_DDPM, 2), 50, "vp-discrete"),
    "vp/cifar10_ddpm_continuous": (_cifar(_DDPM, 2), 50, "vp"),
    "vp/cifar10_ddpmpp": (_cifar(_DDPMPP, 4), 50, "vp-discrete"),
    "vp/cifar10_ddpmpp_continuous": (_cifar(_DDPMPP, 4), 50, "vp"),
    "vp/cifar10_ddpmpp_deep_continuous": (_cifar(_DDPMPP, 8), 50, "vp"),
    "subvp/cifar10_ddpm_continuous": (_cifar(_DDPM, 2), 50, "subvp"),
    "subvp/cifar10_ddpmpp_continuous": (_cifar(_DDPMPP, 4), 50, "subvp"),
    "subvp/cifar10_ddpmpp_deep_continuous": (_cifar(_DDPMPP, 8), 50, "subvp"),
}


def published_names(structure: Structure, levels: NoiseLevels | None) -> list[str]:
    """The published models that a file may be, by its structure and noise levels.

    The structure may be wider or narrower than the published one by a factor.
    """
    multipliers = tuple(width / structure.channels[0] for width in structure.channels)
    attention = (level for level, has in enumerate(structure.attention) if has)
    key: tuple[Any, ...] = (_kind(structure), multipliers, *attention, structure.blocks)
    if levels is None or structure.image_channels != 3:
        return []
    return [
        name
        for name, (network, sigma_max, _) in PUBLISHED.items()
        if network == key and math.isclose(levels.sigma_max, sigma_max, rel_tol=1e-4)
    ]


def published_size(structure: Structure, levels: NoiseLevels | None) -> int | None:
    """The image size of the published models with this structure; None if there are none."""
    names = published_names(structure, levels)
    return _SIZES.get(PUBLISHED[names[0]][0], 32) if names else None


def conventions(structure: Structure, sde: str, levels: NoiseLevels | None) -> dict[str, Any]:
    """The settings that all published models of this kind share.

    The keys are those of `score_sde.config.SETTINGS`. A setting that does not apply or is not
    shared is absent.
    """
    ve = sde.startswith("ve")
    settings = {
        "image_size": published_size(structure, levels),
        "model": _model(structure),
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


def _model(structure: Structure) -> str | None:
    """The class of a network, where it matters: "ddpm" always normalises in 32 groups.

    "ncsnpp" normalises in a quarter of the channels, 32 groups at most.
    """
    narrow = min(structure.channels) < 128 and structure.resblock == "ddpm"
    if not narrow or any(width % 32 for width in structure.channels):
        return None
    return "ddpm" if _kind(structure) == _DDPM else "ncsnpp"


def _kind(structure: Structure) -> tuple[str, str, str, str]:
    """The kind of network, a key of `_FIR` if it was published."""
    s = structure
    return s.embedding, s.resblock, s.progressive_input, s.progressive
