"""Recognises a network of score_sde_pytorch from the names and shapes of its tensors.

Each layer of the file gets its letter (`score_sde.structure`) by the parts that it has. The configuration is read off the
row of letters, and the row that belongs to this configuration is compared with that of the file, layer by layer.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping
from itertools import zip_longest

from torch import Tensor

from ggf_cli.checkpoints.score_sde.structure import Structure
from ggf_cli.errors import CheckpointError

Module = dict[str, tuple[int, ...]]  # the shapes of its tensors, by their names in it
SUPPORTED = (
    "ggf reads NCSN++, DDPM++ and DDPM of score_sde_pytorch with conditional and resamp_with_conv true,"
    " progressive none or output_skip, progressive_input none, input_skip or residual, progressive_combine sum"
)
_LEVEL = re.compile("[RANC]+")  # all layers between two that resample
_LAYERS = {
    "W": "Fourier frequencies", "L": "a linear layer", "C": "a convolution", "N": "a normalisation",
    "R": "a residual block", "S": "a residual block that resamples", "A": "attention",
    "K": "a 1x1 convolution of the image", "D": "a convolution that resamples",
    "F": "a convolution after the FIR filter", "_": "without parameters", "?": "unknown", ".": "missing",
}  # fmt: skip


def recognise(tensors: Mapping[str, Tensor]) -> Structure:
    """The structure of the network with these tensors, by their names in the file without "module.".

    Raises:
        CheckpointError: Of another kind; says which layer is not as it should be. (Shapes that contradict each other
            are found when the network is put together.)
    """
    modules = _modules(tensors)
    letters = "".join(map(_letter, modules))
    if not modules:
        raise CheckpointError("it has no all_modules: NCSN and NCSNv2 are not supported")
    start = re.match("W?LLC", letters)
    if start is None:
        raise CheckpointError(
            f"the first of its {len(modules)} modules do not take the noise level in, so conditional was false"
        )
    levels = list(_LEVEL.finditer(letters, start.end()))
    # The coarsest level down, the middle and the coarsest level up have nothing that resamples between them.
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
                f"module {i} of its {len(modules)} is {_LAYERS[found]}, where {_LAYERS[wanted]} is expected"
            )
        if found == "K" and modules[i]["Conv_0.bias"] != modules[i + 1]["GroupNorm_0.weight"]:
            raise CheckpointError("its progressive_combine is not sum")
    return structure


def _modules(tensors: Mapping[str, Tensor]) -> list[Module]:
    """Every module; those of which there is no tensor are empty."""
    found: dict[int, Module] = defaultdict(dict)
    for name, tensor in tensors.items():
        if match := re.fullmatch(r"all_modules\.([0-9]{1,6})\.(.+)", name):
            found[int(match[1])][match[2]] = tuple(tensor.shape)
    count = max(found, default=-1) + 1
    if count > 2 * len(found):
        raise CheckpointError(f"only {len(found)} of its {count} modules have tensors")
    return [found.get(i, {}) for i in range(count)]


def _letter(module: Module) -> str:
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
    """Whether it is a residual block of the kind "ddpm", which changes its width by a NIN where BigGAN's has a convolution."""
    return "Conv_1.weight" in module and "NIN_0.W" in module
