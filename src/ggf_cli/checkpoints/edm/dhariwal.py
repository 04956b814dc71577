"""DhariwalUNet of EDM's code, the network of ADM: its configuration and tensors for `ADM`.

The heads of the attention are not in the tensors: EDM's code gives them 64 channels, or more where
64 does not divide the width. A label is one row of a matrix without bias, so an embedding.
"""

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
from ggf_cli.errors import CheckpointError

HEAD_CHANNELS = 64
_OUTSIDE = {
    "map_layer0": "time_in",
    "map_layer1": "time_out",
    "map_label": "classes",
    "out_norm": "norm_out",
    "out_conv": "conv_out",
}


def recognise(tensors: Mapping[str, Tensor]) -> tuple[dict[str, Any], int]:
    """The arguments of `ADM` and the image size, from the tensors of a DhariwalUNet.

    Raises:
        CheckpointError: Not a DhariwalUNet, or one that `ADM` does not have.
        LookupError: Tensors are missing, or have too few dimensions.
    """
    size = image_size(tensors)
    image_channels = tensors[f"enc.{size}x{size}_conv.weight"].shape[1]
    levels = resolutions(tensors, size)
    base = tensors["map_layer0.weight"].shape[1]
    check_embedding(tensors, base, base)
    if has_fir(tensors):
        raise CheckpointError("its resampling filter is not (1, 1), as that of a DhariwalUNet")
    channels = widths(tensors, levels)
    attention = [f"enc.{r}x{r}_block0.qkv.weight" in tensors for r in levels]
    config = {
        "image_channels": image_channels,
        "channels": channels,
        "attention_down": attention,
        "attention_up": attention[::-1],
        "attention_mid": f"dec.{levels[-1]}x{levels[-1]}_in0.qkv.weight" in tensors,
        "head_channels": HEAD_CHANNELS,
        "wider_heads": True,
        "blocks": block_count(tensors, levels),
        "base": base,
        "classes": tensors["map_label.weight"].shape[1] if "map_label.weight" in tensors else 0,
        "groups": None,
    }
    return config, size


def has_variance(tensors: Mapping[str, Tensor]) -> bool:
    """Whether the network has outputs for the variance too, as those of improved DDPM."""
    first = tensors[f"enc.{(size := image_size(tensors))}x{size}_conv.weight"]
    return tensors["out_conv.weight"].shape[0] == 2 * first.shape[1]


def renamed(
    tensors: Mapping[str, Tensor], config: Mapping[str, Any], size: int
) -> dict[str, Tensor]:
    """The tensors with the names and shapes of `ADM`; outputs for the variance are dropped.

    Raises:
        CheckpointError: A tensor has no place in the network.
    """
    last = len(config["channels"]) - 1
    layers = {"enc": _encoder(config, size, last), "dec": _decoder(config, size, last)}
    result = renamed_by(tensors, "DhariwalUNet", _OUTSIDE, layers)
    if has_variance(tensors):
        for name in ("conv_out.weight", "conv_out.bias"):
            result[name] = result[name][: config["image_channels"]]
    if "classes.weight" in result:
        result["classes.weight"] = result["classes.weight"].t().contiguous()
    return result


def _encoder(config: Mapping[str, Any], size: int, last: int) -> Places:
    """The layers of the encoder: their names in `ADM`, and those of their attention."""
    places: Places = {f"{size}x{size}_conv": ("conv_in", None)}
    for level in range(last + 1):
        at = f"{size >> level}x{size >> level}"
        if level:
            places[f"{at}_down"] = (f"down.{level - 1}.resample", None)
        for block in range(config["blocks"]):
            places[f"{at}_block{block}"] = _block(f"down.{level}", block)
    return places


def _decoder(config: Mapping[str, Any], size: int, last: int) -> Places:
    """The layers of the decoder, as `_encoder`."""
    coarsest = f"{size >> last}x{size >> last}"
    places: Places = {
        f"{coarsest}_in0": ("mid_in", "mid_attention"),
        f"{coarsest}_in1": ("mid_out", None),
    }
    for level in range(last + 1):
        at, up = f"{size >> level}x{size >> level}", last - level
        if up:
            places[f"{at}_up"] = (f"up.{up - 1}.resample", None)
        for block in range(config["blocks"] + 1):
            places[f"{at}_block{block}"] = _block(f"up.{up}", block)
    return places


def _block(place: str, block: int) -> tuple[str, str]:
    """The names of a residual block, and of the attention after it."""
    return f"{place}.blocks.{block}", f"{place}.attentions.{block}"
