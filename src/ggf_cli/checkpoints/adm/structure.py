"""The structure of an ADM network, from the names and shapes of the tensors in its file.

The code of OpenAI numbers the blocks: `input_blocks.0` is the first convolution, and each level has
`blocks` of them and one that halves the resolution; `output_blocks` has blocks + 1 for each level,
coarsest first, and the last one of a level doubles the resolution.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from ggf_cli.errors import CheckpointError
from ggf_cli.networks.limits import MAX_BLOCKS, MAX_LEVELS

_MOST = MAX_LEVELS * (MAX_BLOCKS + 1)


@dataclass(frozen=True, kw_only=True)
class Structure:
    """The structure of a network.

    Attributes:
        image_channels: Channels of an image.
        learned_variance: The network has further outputs, for the variance.
        base: Width of the sinusoidal embedding ("num_channels").
        channels: Width of each level, finest first.
        attention: Whether each level has attention, finest first.
        blocks: Residual blocks of a level on the way down.
        classes: Number of class labels; 0 for a network without.
        scale_shift: See `ADMConfig`.
        resample: See `ADMConfig`.
        planar: The matrices of the attention are convolutions of images, as in the code of
            consistency_models. There queries, keys and values are thirds of their rows.
    """

    image_channels: int
    learned_variance: bool
    base: int
    channels: tuple[int, ...]
    attention: tuple[bool, ...]
    blocks: int
    classes: int
    scale_shift: bool
    resample: str
    planar: bool = False

    def network_config(self) -> dict[str, Any]:
        """The configuration for `ADM`, without the heads."""
        return {
            "image_channels": self.image_channels,
            "channels": self.channels,
            "attention_down": self.attention,
            "attention_up": self.attention[::-1],
            "blocks": self.blocks,
            "base": self.base,
            "classes": self.classes,
            "scale_shift": self.scale_shift,
            "resample": self.resample,
        }


def recognise(tensors: Mapping[str, Tensor]) -> Structure:
    """Derive the structure. Tensors that do not fit it are found when the network is built.

    Raises:
        CheckpointError: The network is of another kind.
        LookupError, ValueError: Tensors are missing, or their shapes are of no ADM network.
    """
    if not any(name.startswith("output_blocks.") for name in tensors):
        raise CheckpointError(
            "it is a classifier or another network without `output_blocks`, which has no score"
        )
    inputs, outputs = _count(tensors, "input_blocks"), _count(tensors, "output_blocks")
    levels, resample = _levels(tensors, inputs, outputs)
    if outputs % levels or outputs // levels < 2 or outputs != inputs:
        raise CheckpointError(
            f"{inputs} input blocks and {outputs} output blocks do not make {levels} levels"
        )
    blocks = outputs // levels - 1
    firsts = [f"input_blocks.{1 + level * (blocks + 1)}" for level in range(levels)]
    # Rows of matrices and convolutions are their outputs.
    channels = tuple(_rows(tensors, f"{first}.0.out_layers.3.weight") for first in firsts)
    image, variance = _image_channels(tensors)
    qkv = tensors["middle_block.1.qkv.weight"]
    return Structure(
        image_channels=image,
        learned_variance=variance,
        base=_columns(tensors, "time_embed.0.weight"),
        channels=channels,
        attention=tuple(f"{first}.1.qkv.weight" in tensors for first in firsts),
        blocks=blocks,
        classes=_rows(tensors, "label_emb.weight") if "label_emb.weight" in tensors else 0,
        scale_shift=_rows(tensors, "middle_block.0.emb_layers.1.weight") == 2 * channels[-1],
        resample=resample,
        planar=qkv.dim() == 4,
    )


def _count(tensors: Mapping[str, Tensor], kind: str) -> int:
    """The number of blocks of this kind: one more than the largest number in a name."""
    pattern = re.compile(rf"{kind}\.([0-9]{{1,4}})\.")
    count = 1 + max((int(m[1]) for name in tensors if (m := pattern.match(name))), default=-1)
    if count > _MOST:
        raise CheckpointError(f"a network of {count} {kind} is not supported, only up to {_MOST}")
    return count


def _levels(tensors: Mapping[str, Tensor], inputs: int, outputs: int) -> tuple[int, str]:
    """The number of levels, and how they change the resolution."""
    for resample, tensor in (("conv", "conv.weight"), ("block", "in_layers.2.weight")):
        # After the attention, if there is one.
        doubling = sum(
            any(f"output_blocks.{i}.{place}.{tensor}" in tensors for place in (1, 2))
            for i in range(outputs)
        )
        if doubling:
            return doubling + 1, resample
    # Without weights, the blocks that halve have no tensors.
    present = {name.split(".")[1] for name in tensors if name.startswith("input_blocks.")}
    return 1 + inputs - len(present & {str(i) for i in range(inputs)}), "plain"


def _image_channels(tensors: Mapping[str, Tensor]) -> tuple[int, bool]:
    """The channels of an image, and whether the variance is an output too."""
    found = _columns(tensors, "input_blocks.0.0.weight"), _rows(tensors, "out.2.weight")
    for channels in (1, 3):
        if found in ((channels, channels), (channels, 2 * channels)):
            return channels, found[1] > channels
    if found[0] in (2, 6):
        raise CheckpointError(
            f"its input has {found[0]} channels: it is an upsampler, which takes a small image too"
        )
    raise CheckpointError(
        f"its input has {found[0]} channels and its output {found[1]}, which is no image of 1 or 3"
        " channels"
    )


def _rows(tensors: Mapping[str, Tensor], name: str) -> int:
    return tensors[name].shape[0]


def _columns(tensors: Mapping[str, Tensor], name: str) -> int:
    return tensors[name].shape[1]
