"""The order of the layers in a score_sde_pytorch network, and their names in `NCSNpp`.

Song's code stores the layers of a network in a flat list, `all_modules.0`, `.1`, …. Their order
follows from the configuration. Each kind of layer has a letter here:

    W  Fourier frequencies      C  convolution
    L  linear layer             K  1x1 convolution of the image
    N  normalisation            D  convolution that halves or doubles the resolution
    A  attention                F  the same, after the FIR filter
    R  residual block           S  residual block that halves or doubles the resolution
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Structure:
    """The structure of a network, from the names and shapes of its tensors.

    The fields are those of `NCSNppConfig`.

    Attributes:
        fir: Whether the FIR filter is used; None if names and shapes do not depend on it.
    """

    image_channels: int
    channels: tuple[int, ...]
    attention: tuple[bool, ...]
    blocks: int
    embedding: str
    resblock: str
    progressive: str
    progressive_input: str
    fir: bool | None

    def module_names(self) -> list[str]:
        """The names in `NCSNpp` of `all_modules.0`, `.1`, …, in the order of Song's code."""
        last = len(self.channels) - 1
        names = ["frequencies"] if self.embedding == "fourier" else []
        names += ["time_in", "time_out", "conv_in"]
        combine = {"input_skip": ["combine"], "residual": ["combine.down"]}
        for level, attention in enumerate(self.attention):
            for block in range(self.blocks):
                names += [f"down.{level}.blocks.{block}"]
                names += [f"down.{level}.attentions.{block}"] * attention
            if level < last:
                names += [f"down.{level}.resample"]
                names += [f"down.{level}.{n}" for n in combine.get(self.progressive_input, [])]
        names += ["mid_in", "mid_attention", "mid_out"]
        for level, attention in enumerate(reversed(self.attention)):
            names += [f"up.{level}.blocks.{block}" for block in range(self.blocks + 1)]
            names += [f"up.{level}.attention"] * attention
            # The finest level has an image output for each value of progressive.
            if self.progressive == "output_skip" or level == last:
                names += [f"up.{level}.to_image.norm", f"up.{level}.to_image.conv"]
            names += [f"up.{level}.resample"] if level < last else []
        return names

    def letters(self) -> str:
        """The letter of each module."""
        convolution = "F" if self.fir else "D"
        kinds = {
            "frequencies": "W",
            "time_in": "L",
            "time_out": "L",
            "conv_in": "C",
            "norm": "N",
            "conv": "C",
            "resample": "S" if self.resblock == "biggan" else convolution,
            "combine": "K",
            "down": convolution,
        }
        return "".join(
            "A" if "attention" in name else kinds.get(name.split(".")[-1], "R")
            for name in self.module_names()
        )


# Song's names inside a layer -> those of `NCSNpp`.
_INSIDE_BLOCK = {
    "GroupNorm_0": "norm_1",
    "Conv_0": "conv_1",
    "Dense_0": "time",
    "GroupNorm_1": "norm_2",
    "Conv_1": "conv_2",
    "Conv_2": "shortcut",
    "NIN_0": "shortcut",
}
_INSIDE_ATTENTION = {
    "GroupNorm_0": "norm",
    "NIN_0": "query",
    "NIN_1": "key",
    "NIN_2": "value",
    "NIN_3": "out",
}


def renamed(structure: Structure, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors with the names and the memory layouts of `NCSNpp`."""
    names, letters = structure.module_names(), structure.letters()
    result = {}
    for name, tensor in tensors.items():
        _, number, *parts = name.split(".")
        module, kind, letter = names[int(number)], parts[-1], letters[int(number)]
        if letter == "W":
            result[module] = tensor
            continue
        # A NIN multiplies by its matrix from the other side.
        if parts[0].startswith("NIN"):
            matrix, convolution = kind == "W", letter != "A"
            kind = "weight" if matrix else "bias"
            tensor = tensor.T if matrix else tensor
            tensor = tensor[:, :, None, None] if matrix and convolution else tensor
        if letter in "KDF":
            inside = ".conv"
        elif letter in "RS":
            inside = f".{_INSIDE_BLOCK[parts[0]]}"
        elif letter == "A":
            inside = f".{_INSIDE_ATTENTION[parts[0]]}"
        # A layer without parts.
        else:
            inside = ""
        result[f"{module}{inside}.{kind}"] = tensor
    return result
