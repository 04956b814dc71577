"""The published files of OpenAI's diffusion code: structure and training settings, by file name.

The settings are the flags in the READMEs of guided-diffusion, improved-diffusion and
consistency_models; those of `ffhq_10m` are in the configuration of diffusion-posterior-sampling.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from ggf_cli.checkpoints.adm.structure import Structure


@dataclass(frozen=True)
class Published:
    """A published file.

    Attributes:
        structure: The structure of its network.
        settings: Its training settings, the keys of `adm.settings.SETTINGS`.
    """

    structure: Structure
    settings: dict[str, Any]


# Image size -> widths of the levels, divided by the base width.
_MULTIPLIERS: dict[int, tuple[float, ...]] = {
    32: (1, 2, 2, 2),
    64: (1, 2, 3, 4),
    128: (1, 1, 2, 3, 4),
    256: (1, 1, 2, 2, 4, 4),
    512: (0.5, 1, 1, 2, 2, 4, 4),
}


def _published(
    size: int,
    base: int,
    *,
    blocks: int = 2,
    attention: Iterable[int] = (32, 16, 8),
    classes: int = 0,
    scale_shift: bool = True,
    resample: str = "block",
    edm: bool = False,
    **settings: Any,
) -> Published:
    """A published file, from the flags of its training; `attention` lists image sizes."""
    multipliers = _MULTIPLIERS[size]
    structure = Structure(
        image_channels=3,
        learned_variance=not edm,
        base=base,
        channels=tuple(int(base * multiplier) for multiplier in multipliers),
        attention=tuple(size >> level in attention for level in range(len(multipliers))),
        blocks=blocks,
        classes=classes,
        scale_shift=scale_shift,
        resample=resample,
        planar=edm,
    )
    if not edm:
        settings = {"noise_schedule": "linear", "diffusion_steps": 1000} | settings
    return Published(structure, {"image_size": size, **settings})


def _improved(size: int, base: int, **changes: Any) -> Published:
    """A file of improved-diffusion that was trained at 4000 noise levels."""
    flags: dict[str, Any] = {
        "blocks": 3,
        "attention": (16, 8),
        "resample": "conv",
        "num_heads": 4,
        "noise_schedule": "cosine",
        "diffusion_steps": 4000,
        "rescale_timesteps": True,
    }
    return _published(size, base, **flags | changes)


_LSUN = _published(256, 256, num_head_channels=64)
_LSUN_IMPROVED = _published(
    256, 128, attention=(16,), scale_shift=False, resample="conv", num_heads=1
)
_LSUN_EDM = _published(
    256, 256, scale_shift=False, edm=True, num_head_channels=64, noise_schedule="edm"
)

PUBLISHED: dict[str, Published] = {
    # guided-diffusion
    "64x64_diffusion": _published(
        64,
        192,
        blocks=3,
        classes=1000,
        num_head_channels=64,
        use_new_attention_order=True,
        noise_schedule="cosine",
    ),
    "128x128_diffusion": _published(128, 256, classes=1000, num_heads=4),
    "256x256_diffusion": _published(256, 256, classes=1000, num_head_channels=64),
    "256x256_diffusion_uncond": _published(256, 256, num_head_channels=64),
    "512x512_diffusion": _published(512, 256, classes=1000, num_head_channels=64),
    "lsun_bedroom": _LSUN,
    "lsun_cat": _LSUN,
    "lsun_horse": _LSUN,
    "lsun_horse_nodropout": _LSUN,
    # P2-weighting, with the code of guided-diffusion
    "ffhq_10m": _published(256, 128, blocks=1, attention=(16,), num_head_channels=64),
    # improved-diffusion
    "cifar10_uncond_50M_500K": _improved(32, 128),
    "cifar10_uncond_vlb_50M_500K": _improved(32, 128),
    "imagenet64_uncond_100M_1500K": _improved(64, 128),
    "imagenet64_uncond_vlb_100M_1500K": _improved(64, 128),
    "imagenet64_cond_270M_250K": _improved(64, 192, classes=1000, rescale_timesteps=False),
    "lsun_uncond_100M_1200K_bs128": _LSUN_IMPROVED,
    "lsun_uncond_100M_2400K_bs64": _LSUN_IMPROVED,
    # The teachers of consistency_models
    "edm_imagenet64_ema": _published(
        64, 192, blocks=3, classes=1000, edm=True, num_head_channels=64, noise_schedule="edm"
    ),
    "edm_bedroom256_ema": _LSUN_EDM,
    "edm_cat256_ema": _LSUN_EDM,
}

_CONSISTENCY = (
    "is a consistency model: it maps noise to images in one step and has no score",
    "its teacher, edm_{}_ema.pt, has one",
)
_CLASSIFIER = ("is a classifier of noisy images, which has no score", None)
_UPSAMPLER = ("is an upsampler, which takes a small image too; that is not supported", None)

# The published files that have no usable score: (what each of them is, hint).
REFUSED: dict[str, tuple[str, str | None]] = {
    **{f"{size}x{size}_classifier": _CLASSIFIER for size in (64, 128, 256, 512)},
    **dict.fromkeys(("64_256_upsampler", "128_512_upsampler", "upsample_cond_500K"), _UPSAMPLER),
    **{
        f"{kind}_{data}{metric}": (_CONSISTENCY[0], _CONSISTENCY[1].format(data))
        for data in ("imagenet64", "bedroom256", "cat256")
        for kind, metric in (("cd", "_l2"), ("cd", "_lpips"), ("ct", ""))
    },
}
