"""The layers that EDM's U-Nets share: how they are named, and their tensors in our networks.

A layer is named after its resolution, `enc.32x32_block0`: finest first in the encoder, and last in
the decoder. Names and shapes state all of its structure. Query, key and value of the attention are
the rows 0::3, 1::3 and 2::3 of one matrix.

Dropped are the layer of the augmentation labels, which are zero in sampling, and the filters that
resample, which the configuration states.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor

from ggf_cli.errors import CheckpointError
from ggf_cli.networks.limits import MAX_LEVELS

Kind = Literal["SongUNet", "DhariwalUNet"]
# The layers of the encoder or decoder: their names in our network, and those of their attention.
Places = dict[str, tuple[str, str | None]]

_BLOCK = {
    "norm0": "norm_1",
    "conv0": "conv_1",
    "affine": "time",
    "norm1": "norm_2",
    "conv1": "conv_2",
    "skip": "shortcut",
}
_DROPPED = re.compile(r"map_augment\.weight|.*\.resample_filter")
_FIRST = re.compile(r"enc\.([1-9][0-9]{0,4})x\1_conv\.weight")


def kind_of(tensors: Mapping[str, Tensor]) -> Kind | None:
    """The class of the network that tensors are named after; None for another network."""
    if "map_layer0.weight" not in tensors or not any(_FIRST.fullmatch(name) for name in tensors):
        return None
    return "DhariwalUNet" if "out_conv.weight" in tensors else "SongUNet"


def image_size(tensors: Mapping[str, Tensor]) -> int:
    """The image size, from the name of the first convolution."""
    return next(int(match[1]) for name in tensors if (match := _FIRST.fullmatch(name)))


def resolutions(tensors: Mapping[str, Tensor], size: int) -> list[int]:
    """The resolutions of the levels, finest first."""
    found = [size >> level for level in range(MAX_LEVELS)]
    found = [r for r in found if r and f"enc.{r}x{r}_block0.conv0.weight" in tensors]
    if found != [size >> level for level in range(len(found))] or not found:
        raise CheckpointError("its levels do not halve the resolution one after the other")
    return found


def widths(tensors: Mapping[str, Tensor], levels: list[int]) -> list[int]:
    """The width of each level."""
    return [tensors[f"enc.{r}x{r}_block0.conv0.weight"].shape[0] for r in levels]


def block_count(tensors: Mapping[str, Tensor], levels: list[int]) -> int:
    """The number of residual blocks of each level of the encoder."""
    counts = {_count(tensors, f"enc.{r}x{r}_block") for r in levels}
    if len(counts) != 1:
        raise CheckpointError("its levels have different numbers of blocks")
    return counts.pop()


def _count(tensors: Mapping[str, Tensor], prefix: str) -> int:
    """The number of blocks with a prefix."""
    count = 0
    while f"{prefix}{count}.conv0.weight" in tensors:
        count += 1
    return count


def check_embedding(tensors: Mapping[str, Tensor], base: int, noise: int) -> None:
    """Refuse an embedding of another width than that of our networks.

    Args:
        tensors: The tensors.
        base: Width of the network.
        noise: Width of the embedding of the noise level.
    """
    out, into = tensors["map_layer0.weight"].shape
    if out != 4 * base or into != noise:
        raise CheckpointError(
            f"its embedding has width {into} and {out}, which is not supported for a network of"
            f" width {base}",
            hint=f"supported are {noise} and {4 * base}",
        )


def has_fir(tensors: Mapping[str, Tensor]) -> bool:
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
    tensors: Mapping[str, Tensor],
    kind: Kind,
    outside: Mapping[str, str],
    layers: Mapping[str, Places],
) -> dict[str, Tensor]:
    """The tensors with the names and shapes of our network.

    Args:
        tensors: The tensors.
        kind: The class of the network, for messages.
        outside: The names of layers or tensors outside of encoder and decoder: ours.
        layers: The layers of the encoder, "enc", and of the decoder, "dec".

    Raises:
        CheckpointError: A tensor has no place in the network.
    """
    result: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        if _DROPPED.fullmatch(name):
            continue
        layer, _, last = name.rpartition(".")
        if name in outside or layer in outside:
            result[outside.get(name) or f"{outside[layer]}.{last}"] = tensor
            continue
        side, block, *inside = name.split(".")
        placed = None
        if (places := layers.get(side, {}).get(block)) and len(inside) in (1, 2):
            placed = _placed(tensor, inside, *places)
        if placed is None:
            raise CheckpointError(f"it has a tensor {name[:80]!r}, which is not a part of {kind}")
        result |= placed
    return result


def _placed(
    tensor: Tensor, inside: list[str], place: str, attention: str | None
) -> dict[str, Tensor] | None:
    """One tensor of a layer by its names in our network; None if it has no place."""
    part, kind = (inside[0], inside[-1]) if len(inside) == 2 else ("", inside[-1])
    if not part:
        return {f"{place}.{kind}": tensor}
    if part in _BLOCK:
        return {f"{place}.{_BLOCK[part]}.{kind}": tensor}
    if attention is None or part not in ("norm2", "qkv", "proj"):
        return None
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
