"""Read the configuration of a diffusers `UNet2DModel` as that of a native network.

The class covers two families: the U-Net of Ho et al. (google/ddpm-*) with the changes of Dhariwal
and Nichol (scale_shift, resampling in residual blocks), and NCSN++ (google/ncsnpp-*, with block
types named "Skip..."). A setting that the native networks do not support raises an error that names
its key.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ggf_cli.checkpoints.diffusers.configs import Config
from ggf_cli.errors import CheckpointError
from ggf_cli.networks.layers import ACTIVATIONS, song_groups

# Key -> block type -> whether it has attention.
_UNET_BLOCKS = {
    "down_block_types": {
        "DownBlock2D": False,
        "AttnDownBlock2D": True,
        "ResnetDownsampleBlock2D": False,
    },
    "up_block_types": {"UpBlock2D": False, "AttnUpBlock2D": True, "ResnetUpsampleBlock2D": False},
}
_NCSNPP_BLOCKS = {
    "down_block_types": {"SkipDownBlock2D": False, "AttnSkipDownBlock2D": True},
    "up_block_types": {"SkipUpBlock2D": False, "AttnSkipUpBlock2D": True},
}
# The signature of UNet2DModel in diffusers 0.42.
DEFAULTS: dict[str, Any] = {
    "sample_size": None,
    "in_channels": 3,
    "out_channels": 3,
    "center_input_sample": False,
    "time_embedding_type": "positional",
    "time_embedding_dim": None,
    "freq_shift": 0,
    "flip_sin_to_cos": True,
    "down_block_types": ("DownBlock2D", *["AttnDownBlock2D"] * 3),
    "mid_block_type": "UNetMidBlock2D",
    "up_block_types": (*["AttnUpBlock2D"] * 3, "UpBlock2D"),
    "block_out_channels": (224, 448, 672, 896),
    "layers_per_block": 2,
    "mid_block_scale_factor": 1,
    "downsample_padding": 1,
    "downsample_type": "conv",
    "upsample_type": "conv",
    "act_fn": "silu",
    "attention_head_dim": 8,
    "norm_num_groups": 32,
    "attn_norm_num_groups": None,
    "norm_eps": 1e-5,
    "resnet_time_scale_shift": "default",
    "add_attention": True,
    "class_embed_type": None,
    "num_class_embeds": None,
    # Only used by the learned time embedding.
    "num_train_timesteps": None,
}
_IGNORED = {
    # Only used in training.
    "dropout",
    # Settings and state of diffusers' moving average.
    *("decay", "min_decay", "inv_gamma", "power", "use_ema_warmup"),
    *("optimization_step", "update_after_step"),
}


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """What config.json states of a model.

    Attributes:
        network: The name of the native network.
        config: Its configuration.
        shape: The shape of a sample, (C, H, W).
        classes: Number of class labels; 0: the network takes none.
    """

    network: str
    config: dict[str, Any]
    shape: tuple[int, int, int]
    classes: int = 0


def check_class(document: dict[str, Any], file: Path) -> None:
    """Refuse a network of another class than `UNet2DModel`."""
    if (kind := document.get("_class_name")) != "UNet2DModel":
        raise CheckpointError(
            f"{file}: _class_name is {kind!r:.60}, only 'UNet2DModel' is supported"
        )


def read_architecture(document: dict[str, Any], file: Path) -> Architecture:
    """The native network, its configuration, and the shape of a sample.

    Args:
        document: The content of config.json.
        file: Its path, for messages.

    Raises:
        CheckpointError: Not a `UNet2DModel`, or not supported; the message names the key.
    """
    check_class(document, file)
    config = Config(file, document, defaults=DEFAULTS, ignored=_IGNORED)
    version = str(document.get("_diffusers_version"))
    if version.startswith("0.0.") and "attention_head_dim" not in document:
        raise CheckpointError(
            f"{file} is of 2022 and lacks attention_head_dim, whose default has changed since",
            hint="add attention_head_dim: null, which is one head, as in the published models",
        )
    channels = config["in_channels"], config["out_channels"]
    if channels[0] != channels[1]:
        raise CheckpointError(
            f"{file}: in_channels is {channels[0]!r:.60} and out_channels is {channels[1]!r:.60}:"
            " the input has further channels, such as class labels or a second image, which the"
            " file does not describe",
            hint="from Python, a function that adds these channels makes a ScoreModel of the"
            " network: see docs/guide/own-models.md",
        )
    blocks = {
        key: [str(block).removeprefix("UNetRes") for block in config[key]] for key in _UNET_BLOCKS
    }
    ncsnpp = any("Skip" in block for types in blocks.values() for block in types)
    known = _NCSNPP_BLOCKS if ncsnpp else _UNET_BLOCKS
    for key, types in blocks.items():
        for block in types:
            if block not in known[key]:
                why = " beside Skip blocks" if ncsnpp else ""
                choices = [", ".join(kinds[key]) for kinds in (_UNET_BLOCKS, _NCSNPP_BLOCKS)]
                raise CheckpointError(
                    f"{file}: {key} has {block!r:.60}, which is not supported{why}",
                    hint=f"supported: {choices[0]}; or {choices[1]}",
                )
    down, up = ([known[key][block] for block in types] for key, types in blocks.items())
    if not len(down) == len(up) == len(config["block_out_channels"]):
        raise CheckpointError(
            f"{file}: down_block_types, up_block_types and block_out_channels have {len(down)},"
            f" {len(up)} and {len(config['block_out_channels'])} levels, must be equal"
        )
    if ncsnpp:
        name, native = "ncsnpp", _ncsnpp(config, down, up)
    else:
        name, native = "unet", _unet(config, down, up) | _resampling(config, *blocks.values())
    shape = _shape(config)
    return Architecture(network=name, config=native, shape=shape, classes=native.get("classes", 0))


def _shape(config: Config) -> tuple[int, int, int]:
    """The shape of a sample, (C, H, W)."""
    size = config["sample_size"]
    height, width = size if isinstance(size, list | tuple) and len(size) == 2 else (size, size)
    if type(height) is not int or type(width) is not int:
        raise CheckpointError(
            f"{config.file}: sample_size is {size!r:.60}, it must be one or two whole numbers",
            hint="give the size of the training images, like 64 or [64, 48]",
        )
    return config["in_channels"], height, width


def _head_channels(config: Config, down: list[bool], up: list[bool]) -> int | None:
    """The channels of one attention head; None for one head of all channels."""
    widths = list(config["block_out_channels"])
    middle = config["add_attention"] and config["mid_block_type"] is not None
    levels = zip(widths + widths[::-1] + widths[-1:], [*down, *up, middle], strict=True)
    narrowest = min((width for width, attends in levels if attends), default=math.inf)
    heads = config.whole("attention_head_dim", optional=True)
    if heads and heads > narrowest:
        raise config.refused(
            "attention_head_dim",
            f"None or up to the {narrowest} channels of a level with attention",
        )
    return heads


def _unet(config: Config, down: list[bool], up: list[bool]) -> dict[str, Any]:
    """The configuration of a U-Net; `down` and `up` state which levels have attention."""
    config.require("time_embedding_type", "positional", "learned")
    config.require("mid_block_type", "UNetMidBlock2D", None)
    config.require("resnet_time_scale_shift", "default", "scale_shift")
    scale_shift = config["resnet_time_scale_shift"] == "scale_shift"
    # With scale_shift, that attention has no normalisation unless its groups are stated.
    groups = config.whole("attn_norm_num_groups", optional=True)
    learned = config["time_embedding_type"] == "learned"
    scale = config["mid_block_scale_factor"]
    if not isinstance(scale, int | float) or not math.isfinite(scale) or scale == 0:
        raise config.refused("mid_block_scale_factor", "a number other than 0")
    return {
        "image_channels": config["in_channels"],
        "channels": list(config["block_out_channels"]),
        "attention_down": down,
        "attention_up": up,
        "attention_mid": bool(config["add_attention"]),
        "attention_mid_groups": 0 if groups is None and scale_shift else groups,
        "head_channels": _head_channels(config, down, up),
        "blocks": config["layers_per_block"],
        "groups": config.whole("norm_num_groups"),
        "norm_eps": config["norm_eps"],
        "mid_scale": scale,
        "centered": not config["center_input_sample"],
        "time_channels": config.whole("time_embedding_dim", optional=True),
        "time_cosine_first": bool(config["flip_sin_to_cos"]),
        "time_freq_shift": config["freq_shift"],
        "scale_shift": scale_shift,
        "activation": _activation(config),
        "middle": config["mid_block_type"] is not None,
        **_class_embedding(config),
        "time_levels": config.whole("num_train_timesteps") if learned else 0,
    }


def _resampling(config: Config, down: list[str], up: list[str]) -> dict[str, Any]:
    """The part of the configuration of a U-Net that states how levels of these types resample.

    The keys of the type apply to blocks with attention only; the padding to convolutions only.
    """
    config.require("downsample_padding", 0, 1)
    inside = {}
    for key in ("downsample_type", "upsample_type"):
        config.require(key, "conv", "resnet", None)
        inside[key] = config[key] == "resnet"

    def in_block(kind: str, key: str) -> bool:
        return kind.startswith("Resnet") or (kind.startswith("Attn") and inside[key])

    return {
        "block_down": [in_block(kind, "downsample_type") for kind in down],
        "block_up": [in_block(kind, "upsample_type") for kind in up],
        "downsample_padding": int(config["downsample_padding"]),
    }


def _activation(config: Config) -> str:
    """The key of `ACTIVATIONS` of act_fn, which diffusers reads without regard to case."""
    name = str(config["act_fn"]).lower()
    name = "silu" if name == "swish" else name
    if name not in ACTIVATIONS:
        raise config.refused("act_fn", f"{', '.join(map(repr, ACTIVATIONS))} or 'swish'")
    return name


def _class_embedding(config: Config) -> dict[str, Any]:
    """The part of the configuration of a DDPM U-Net that states how it takes a class label."""
    kind = config["class_embed_type"]
    if kind is None:
        return {"classes": config.whole("num_class_embeds", optional=True) or 0}
    if kind != "timestep":
        raise CheckpointError(
            f"{config.refused('class_embed_type', 'null or ' + repr('timestep'))}: the network"
            " takes a vector of the user's, not a class label"
        )
    config.require("time_embedding_type", "positional")
    if config["num_class_embeds"] is None:
        raise CheckpointError(
            f"{config.file}: class_embed_type is 'timestep', so any number may be a class label,"
            " and the number of classes is not stated",
            hint="add num_class_embeds: N for the labels 0 .. N - 1 of the training; diffusers"
            " ignores it beside class_embed_type",
        )
    return {"classes": config.whole("num_class_embeds"), "class_embedding": "label"}


def _ncsnpp(config: Config, down: list[bool], up: list[bool]) -> dict[str, Any]:
    """The configuration of an NCSN++; `down` and `up` state which levels have attention."""
    # Not checked: downsample_* and upsample_type, which Skip blocks do not use, and freq_shift and
    # flip_sin_to_cos, which the fourier embedding does not use.
    # In diffusers, Skip blocks add an image of 3 channels.
    config.require("in_channels", 3)
    for key in (
        "mid_block_type",
        "resnet_time_scale_shift",
        "class_embed_type",
        "num_class_embeds",
    ):
        config.require(key, DEFAULTS[key])
    if _activation(config) != "silu":
        raise config.refused("act_fn", "'silu'")
    config.require("time_embedding_type", "fourier")
    config.require("time_embedding_dim", None, 4 * config["block_out_channels"][0])
    if not math.isclose(config["mid_block_scale_factor"], math.sqrt(2), rel_tol=1e-6):
        raise config.refused("mid_block_scale_factor", "1.41421356237")
    finest, *_, coarsest = map(song_groups, [*config["block_out_channels"] * 2])
    for key, norms in (
        ("norm_num_groups", {finest, coarsest}),
        ("attn_norm_num_groups", {coarsest}),
    ):
        if config[key] is not None and {config[key]} != norms:
            raise config.refused(key, "None")
    if down != up[::-1]:
        raise CheckpointError(
            f"{config.file}: down_block_types and up_block_types have attention at different"
            " levels, which is not supported for Skip blocks"
        )
    return {
        "image_channels": config["in_channels"],
        "channels": list(config["block_out_channels"]),
        "attention": down,
        "attention_mid": bool(config["add_attention"]),
        "head_channels": _head_channels(config, down, up),
        "blocks": config["layers_per_block"],
        "embedding": "fourier",
        "progressive": "output_skip",
        "progressive_input": "input_skip",
        "groups": "diffusers",
        "norm_eps": config["norm_eps"],
        "scale_by_sigma": True,
        "centered": not config["center_input_sample"],
    }
