"""SongUNet of EDM's code, which is NCSN++ or DDPM++: its configuration and tensors for `NCSNpp`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from ggf_cli.checkpoints.edm.blocks import (
    Places,
    block_count,
    check_embedding,
    has_fir,
    image_size,
    resolutions,
    widths,
)
from ggf_cli.checkpoints.edm.blocks import renamed as renamed_by

_OUTSIDE = {
    "map_noise.freqs": "frequencies",
    "map_layer0": "time_in",
    "map_layer1": "time_out",
    "map_label": "class_in",
}


def recognise(tensors: Mapping[str, Tensor]) -> tuple[dict[str, Any], int]:
    """The arguments of `NCSNpp` and the image size, from the tensors of a SongUNet.

    Raises:
        CheckpointError: Not a SongUNet, or one that `NCSNpp` does not have.
        LookupError: Tensors are missing, or have too few dimensions.
    """
    size = image_size(tensors)
    base, image_channels = tensors[f"enc.{size}x{size}_conv.weight"].shape[:2]
    levels = resolutions(tensors, size)
    blocks = block_count(tensors, levels)
    fourier = "map_noise.freqs" in tensors
    check_embedding(tensors, base, 2 * base if fourier else base)
    channels = widths(tensors, levels)
    added = "input_skip" if _has(tensors, "enc", "aux_skip") else "none"
    config = {
        "image_channels": image_channels,
        "channels": channels,
        "attention": [f"enc.{r}x{r}_block0.qkv.weight" in tensors for r in levels],
        "blocks": blocks,
        "embedding": "fourier" if fourier else "positional",
        "resblock": "biggan",
        "fir": has_fir(tensors),
        "progressive": "output_skip" if _has(tensors, "dec", "aux_up") else "none",
        "progressive_input": "residual" if _has(tensors, "enc", "aux_residual") else added,
        "base": None if base == channels[0] else base,
        "log_label": False,
        "classes": tensors["map_label.weight"].shape[1] if "map_label.weight" in tensors else 0,
    }
    return config, size


def _has(tensors: Mapping[str, Tensor], side: str, layer: str) -> bool:
    return any(name.startswith(f"{side}.") and f"_{layer}." in name for name in tensors)


def renamed(
    tensors: Mapping[str, Tensor], config: Mapping[str, Any], size: int
) -> dict[str, Tensor]:
    """The tensors with the names and shapes of `NCSNpp`.

    Raises:
        CheckpointError: A tensor has no place in the network.
    """
    last = len(config["channels"]) - 1
    layers = {"enc": _encoder(config, size, last), "dec": _decoder(config, size, last)}
    return renamed_by(tensors, "SongUNet", _OUTSIDE, layers)


def _encoder(config: Mapping[str, Any], size: int, last: int) -> Places:
    """The layers of the encoder: their names in `NCSNpp`, and those of their attention."""
    places: Places = {f"{size}x{size}_conv": ("conv_in", None)}
    for level in range(last + 1):
        at = f"{size >> level}x{size >> level}"
        places[f"{at}_down"] = (f"down.{level - 1}.resample", None)
        places[f"{at}_aux_skip"] = (f"down.{level - 1}.combine.conv", None)
        places[f"{at}_aux_residual"] = (f"down.{level - 1}.combine.down.conv", None)
        for block in range(config["blocks"]):
            place = f"down.{level}"
            places[f"{at}_block{block}"] = (
                f"{place}.blocks.{block}",
                f"{place}.attentions.{block}",
            )
    return places


def _decoder(config: Mapping[str, Any], size: int, last: int) -> Places:
    """The layers of the decoder, as `_encoder`."""
    coarsest = f"{size >> last}x{size >> last}"
    places: Places = {
        f"{coarsest}_in0": ("mid_in", "mid_attention"),
        f"{coarsest}_in1": ("mid_out", None),
    }
    for level in range(last + 1):
        at, place = f"{size >> level}x{size >> level}", f"up.{last - level}"
        places[f"{at}_up"] = (f"up.{last - level - 1}.resample", None)
        places[f"{at}_aux_norm"] = (f"{place}.to_image.norm", None)
        places[f"{at}_aux_conv"] = (f"{place}.to_image.conv", None)
        for block in range(config["blocks"] + 1):
            attention = f"{place}.attention" if block == config["blocks"] else None
            places[f"{at}_block{block}"] = (f"{place}.blocks.{block}", attention)
    return places
