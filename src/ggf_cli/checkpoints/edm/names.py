"""The configuration of a SongUNet of EDM's code from its tensors, and their names in `NCSNpp`.

SongUNet is NCSN++ or DDPM++. Its layers are named after their resolution, `enc.32x32_block0.conv0`,
finest first in the encoder and last in the decoder. Names and shapes state all of its structure.
Query, key and value of the attention are the rows 0::3, 1::3 and 2::3 of one matrix.

Dropped are the layer of the augmentation labels, which are zero in sampling, and the filters that
resample, which the configuration states.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from ggf_cli.errors import CheckpointError
from ggf_cli.networks.limits import MAX_LEVELS

_BLOCK = {
    "norm0": "norm_1",
    "conv0": "conv_1",
    "affine": "time",
    "norm1": "norm_2",
    "conv1": "conv_2",
    "skip": "shortcut",
}
_OUTSIDE = {
    "map_noise.freqs": "frequencies",
    "map_layer0": "time_in",
    "map_layer1": "time_out",
    "map_label": "class_in",
}
_DROPPED = re.compile(r"map_augment\.weight|.*\.resample_filter")
_FIRST = re.compile(r"enc\.([1-9][0-9]{0,4})x\1_conv\.weight")


def is_song_unet(tensors: Mapping[str, Tensor]) -> bool:
    """Whether tensors have the names of a SongUNet."""
    return "map_layer0.weight" in tensors and any(_FIRST.fullmatch(name) for name in tensors)


def recognise(tensors: Mapping[str, Tensor]) -> tuple[dict[str, Any], int]:
    """The arguments of `NCSNpp` and the image size, from the tensors of a SongUNet.

    Raises:
        CheckpointError: Not a SongUNet, or one that `NCSNpp` does not have.
        LookupError: Tensors are missing, or have too few dimensions.
    """
    size = next(int(match[1]) for name in tensors if (match := _FIRST.fullmatch(name)))
    first = tensors[f"enc.{size}x{size}_conv.weight"]
    base, image_channels = first.shape[:2]
    resolutions = _resolutions(tensors, size)
    counts = {_count(tensors, f"enc.{res}x{res}_block") for res in resolutions}
    if len(counts) != 1:
        raise CheckpointError("its levels have different numbers of blocks")
    fourier = "map_noise.freqs" in tensors
    emb, noise = tensors["map_layer0.weight"].shape
    if emb != 4 * base or noise != (2 if fourier else 1) * base:
        raise CheckpointError(
            f"its embedding has width {noise} and {emb}, which is not supported for a network of"
            f" width {base}",
            hint=f"supported are {2 * base if fourier else base} and {4 * base}",
        )
    channels = [tensors[f"enc.{r}x{r}_block0.conv0.weight"].shape[0] for r in resolutions]
    added = "input_skip" if _has(tensors, "enc", "aux_skip") else "none"
    config = {
        "image_channels": image_channels,
        "channels": channels,
        "attention": [f"enc.{r}x{r}_block0.qkv.weight" in tensors for r in resolutions],
        "blocks": counts.pop(),
        "embedding": "fourier" if fourier else "positional",
        "resblock": "biggan",
        "fir": _filter(tensors),
        "progressive": "output_skip" if _has(tensors, "dec", "aux_up") else "none",
        "progressive_input": "residual" if _has(tensors, "enc", "aux_residual") else added,
        "base": None if base == channels[0] else base,
        "log_label": False,
        "classes": tensors["map_label.weight"].shape[1] if "map_label.weight" in tensors else 0,
    }
    return config, size


def _resolutions(tensors: Mapping[str, Tensor], size: int) -> list[int]:
    """The resolutions of the levels, finest first."""
    found = [size >> level for level in range(MAX_LEVELS)]
    found = [r for r in found if r and f"enc.{r}x{r}_block0.conv0.weight" in tensors]
    if found != [size >> level for level in range(len(found))] or not found:
        raise CheckpointError("its levels do not halve the resolution one after the other")
    return found


def _count(tensors: Mapping[str, Tensor], prefix: str) -> int:
    """The number of blocks with a prefix."""
    count = 0
    while f"{prefix}{count}.conv0.weight" in tensors:
        count += 1
    return count


def _has(tensors: Mapping[str, Tensor], side: str, layer: str) -> bool:
    return any(name.startswith(f"{side}.") and f"_{layer}." in name for name in tensors)


def _filter(tensors: Mapping[str, Tensor]) -> bool:
    """Whether the resampling filter is (1, 3, 3, 1); if not, it is (1, 1).

    Raises:
        CheckpointError: It is another one.
    """
    rows = {True: torch.tensor([1.0, 3.0, 3.0, 1.0]) / 8, False: torch.tensor([1.0, 1.0]) / 2}
    known = {fir: torch.outer(row, row)[None, None] for fir, row in rows.items()}
    found = [tensor for name, tensor in tensors.items() if name.endswith(".resample_filter")]
    for fir, taps in known.items():
        if found and all(t.shape == taps.shape and torch.allclose(t.float(), taps) for t in found):
            return fir
    if not found:
        return False
    raise CheckpointError(
        "its resampling filter is not supported", hint="supported are (1, 1) and (1, 3, 3, 1)"
    )


def renamed(
    tensors: Mapping[str, Tensor], config: Mapping[str, Any], size: int
) -> dict[str, Tensor]:
    """The tensors with the names and shapes of `NCSNpp`.

    Raises:
        CheckpointError: A tensor has no place in the network.
    """
    last = len(config["channels"]) - 1
    layers = {"enc": _encoder(config, size, last), "dec": _decoder(config, size, last)}
    result: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        if _DROPPED.fullmatch(name):
            continue
        layer, _, kind = name.rpartition(".")
        if name in _OUTSIDE or layer in _OUTSIDE:
            result[_OUTSIDE.get(name) or f"{_OUTSIDE[layer]}.{kind}"] = tensor
            continue
        side, block, *inside = name.split(".")
        places = layers.get(side, {}).get(block)
        if places is None:
            raise CheckpointError(f"it has a tensor {name[:80]!r}, which is not a part of SongUNet")
        result |= _placed(tensor, name, inside, *places)
    return result


def _placed(
    tensor: Tensor, name: str, inside: list[str], place: str, attention: str | None
) -> dict[str, Tensor]:
    """One tensor of a layer: its names in `NCSNpp`, and the parts of a joint matrix."""
    part, kind = (inside[0], inside[-1]) if len(inside) == 2 else ("", inside[-1])
    if not part:
        return {f"{place}.{kind}": tensor}
    if part in _BLOCK:
        return {f"{place}.{_BLOCK[part]}.{kind}": tensor}
    if attention is None or part not in ("norm2", "qkv", "proj"):
        raise CheckpointError(f"it has a tensor {name[:80]!r}, which is not a part of SongUNet")
    if part == "norm2":
        return {f"{attention}.norm.{kind}": tensor}
    # The convolutions are 1 x 1.
    matrix = tensor[:, :, 0, 0] if kind == "weight" else tensor
    if part == "proj":
        return {f"{attention}.out.{kind}": matrix}
    return {
        f"{attention}.{target}.{kind}": matrix[row::3].contiguous()
        for row, target in enumerate(("query", "key", "value"))
    }


Places = dict[str, tuple[str, str | None]]


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
