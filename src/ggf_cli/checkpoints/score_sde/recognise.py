"""Recognise a network of score_sde_pytorch from the names and shapes of its tensors.

Each layer of the file is classified by the tensors that it has, see the letters in
`score_sde.structure`. The configuration is derived from the sequence of letters. Then the sequence
that this configuration gives is compared with that of the file, layer by layer.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping
from itertools import zip_longest

from torch import Tensor

from ggf_cli.checkpoints.score_sde.structure import Structure
from ggf_cli.errors import CheckpointError

# The tensors of one layer: {name inside the layer: shape}.
Module = dict[str, tuple[int, ...]]
SUPPORTED = (
    "ggf reads NCSN++, DDPM++ and DDPM of score_sde_pytorch with conditional and resamp_with_conv"
    " true, progressive none or output_skip, progressive_input none, input_skip or residual,"
    " progressive_combine sum"
)
# All layers between two that resample.
_LEVEL = re.compile("[RANC]+")
_LAYERS = {
    "W": "Fourier frequencies",
    "L": "a linear layer",
    "C": "a convolution",
    "N": "a normalisation",
    "R": "a residual block",
    "S": "a residual block that resamples",
    "A": "attention",
    "K": "a 1x1 convolution of the image",
    "D": "a convolution that resamples",
    "F": "a convolution after the FIR filter",
    "_": "without parameters",
    "?": "unknown",
    ".": "missing",
}


def recognise(tensors: Mapping[str, Tensor]) -> Structure:
    """Derive the structure of a network from its tensors.

    Shapes that contradict each other are not found here, but when the network is built.

    Args:
        tensors: {name in the file, without "module.": tensor}.

    Raises:
        CheckpointError: Not a supported network; the message names the first unexpected layer.
    """
    modules = _modules(tensors)
    letters = "".join(map(_letter, modules))
    if not modules:
        raise CheckpointError("it has no all_modules: NCSN and NCSNv2 are not supported")
    start = re.match("W?LLC", letters)
    if start is None:
        raise CheckpointError(
            f"the first of its {len(modules)} modules are not an embedding of the noise level,"
            " so it was trained with conditional=false"
        )
    levels = list(_LEVEL.finditer(letters, start.end()))
    # No layer resamples between the coarsest level down, the middle and the coarsest level up.
    down = levels[: len(levels) // 2 + 1]
    middle = down[-1][0]
    combine = re.search("[SDF]([KDF])", letters)
    resampling = {"F", "D"} & set(letters)
    structure = Structure(
        image_channels=modules[start.end() - 1]["weight"][1],
        channels=tuple(modules[level.start()]["Conv_0.weight"][0] for level in down),
        attention=(*("A" in level[0] for level in down[:-1]), middle.count("A") > 1),
        blocks=(middle.count("R") - 3) // 2,
        embedding="fourier" if "W" in letters else "positional",
        resblock="ddpm" if any(_is_ddpm(module) for module in modules) else "biggan",
        progressive="output_skip" if letters.count("N") > 1 else "none",
        progressive_input={"K": "input_skip", None: "none"}.get(combine and combine[1], "residual"),
        fir="F" in resampling if resampling else None,
    )
    for i, (found, wanted) in enumerate(zip_longest(letters, structure.letters(), fillvalue=".")):
        if found != wanted:
            raise CheckpointError(
                f"module {i} of its {len(modules)} is {_LAYERS[found]},"
                f" where {_LAYERS[wanted]} is expected"
            )
        if found == "K" and modules[i]["Conv_0.bias"] != modules[i + 1]["GroupNorm_0.weight"]:
            raise CheckpointError("its progressive_combine is not sum")
    return structure


def _modules(tensors: Mapping[str, Tensor]) -> list[Module]:
    """The tensors of each module, in order; a module without tensors is empty."""
    found: dict[int, Module] = defaultdict(dict)
    for name, tensor in tensors.items():
        if match := re.fullmatch(r"all_modules\.([0-9]{1,6})\.(.+)", name):
            found[int(match[1])][match[2]] = tuple(tensor.shape)
    count = max(found, default=-1) + 1
    if count > 2 * len(found):
        raise CheckpointError(f"only {len(found)} of its {count} modules have tensors")
    return [found.get(i, {}) for i in range(count)]


def _letter(module: Module) -> str:
    """The letter of a layer, from the names and shapes of its tensors; "?" if unknown."""
    parts = {name.rpartition(".")[0] for name in module}
    if not module:
        return "_"
    if module.keys() == {"W"}:
        return "W"
    if parts == {""}:
        return {1: "N", 2: "L", 4: "C"}.get(len(module.get("weight", ())), "?")
    if parts == {"Conv2d_0"}:
        return "F"
    if parts == {"Conv_0"}:
        return "K" if module["Conv_0.weight"][2:] == (1, 1) else "D"
    if parts == {"GroupNorm_0", "NIN_0", "NIN_1", "NIN_2", "NIN_3"}:
        return "A"
    plain = {"GroupNorm_0", "Conv_0", "Dense_0", "GroupNorm_1", "Conv_1"}
    if parts - plain not in (set(), {"Conv_2"}, {"NIN_0"}) or not parts >= plain:
        return "?"
    same = module["GroupNorm_0.weight"][0] == module["Conv_0.weight"][0]
    return "S" if "Conv_2" in parts and same else "R"


def _is_ddpm(module: Module) -> bool:
    """Whether this is a DDPM residual block: its shortcut is a NIN, BigGAN's is a convolution."""
    return "Conv_1.weight" in module and "NIN_0.W" in module
