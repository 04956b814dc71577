"""The tensors of an ADM network of OpenAI's code, under the names of `ADM`."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from torch import Tensor

from ggf_cli.checkpoints.adm.structure import Structure

# OpenAI's names inside a layer -> those of `ADM`.
_OUTSIDE = {
    "time_embed.0": "time_in",
    "time_embed.2": "time_out",
    "label_emb": "classes",
    "input_blocks.0.0": "conv_in",
    "middle_block.0": "mid_in",
    "middle_block.1": "mid_attention",
    "middle_block.2": "mid_out",
    "out.0": "norm_out",
    "out.2": "conv_out",
}
_INSIDE = {
    "in_layers.0": "norm_1",
    "in_layers.2": "conv_1",
    "emb_layers.1": "time",
    "out_layers.0": "norm_2",
    "out_layers.3": "conv_2",
    "skip_connection": "shortcut",
    # Of attention.
    "norm": "norm",
    "proj_out": "out",
    # Of layers that halve and double.
    "op": "conv",
    "conv": "conv",
}


def module_names(structure: Structure) -> dict[str, str]:
    """The name in `ADM` of each module that has a number in OpenAI's code."""
    names, last = dict(_OUTSIDE), len(structure.channels) - 1
    for level, attention in enumerate(structure.attention):
        first = 1 + level * (structure.blocks + 1)
        for i in range(structure.blocks):
            names[f"input_blocks.{first + i}.0"] = f"down.{level}.blocks.{i}"
            names[f"input_blocks.{first + i}.1"] = f"down.{level}.attentions.{i}"
        if level < last:
            names[f"input_blocks.{first + structure.blocks}.0"] = f"down.{level}.resample"
        up = last - level
        for i in range(structure.blocks + 1):
            block = f"output_blocks.{up * (structure.blocks + 1) + i}"
            names[f"{block}.0"] = f"up.{up}.blocks.{i}"
            if attention:
                names[f"{block}.1"] = f"up.{up}.attentions.{i}"
        if level:
            names[f"{block}.{1 + attention}"] = f"up.{up}.resample"
    return names


def renamed(
    structure: Structure,
    tensors: Mapping[str, Tensor],
    *,
    heads: Callable[[int], int],
    thirds: bool,
) -> dict[str, Tensor]:
    """The tensors with the names and the memory layouts of `ADM`; the learned variance is dropped.

    A tensor with an unknown name keeps it.

    Args:
        structure: The structure.
        tensors: The tensors.
        heads: The number of attention heads, by the width of the level.
        thirds: Queries, keys and values are thirds of the rows, in which each head has a part;
            otherwise each head has its rows, of which they are thirds.
    """
    modules, result = module_names(structure), {}
    for name, tensor in tensors.items():
        module, inside, kind = _split(name, modules)
        if inside == "qkv":
            count = heads(tensor.shape[0] // 3)
            parts = (3, count) if thirds else (count, 3)
            rows = tensor.reshape(*parts, -1, *tensor.shape[1:2])
            for i, part in enumerate(("query", "key", "value")):
                chosen = rows[i] if thirds else rows[:, i]
                result[f"{module}.{part}.{kind}"] = chosen.flatten(0, 1)
            continue
        if inside == "proj_out" and kind == "weight":
            # A convolution with a kernel of one pixel.
            tensor = tensor.flatten(1)
        if module == "conv_out":
            tensor = tensor[: structure.image_channels]
        if module:
            name = ".".join(part for part in (module, _INSIDE.get(inside, inside), kind) if part)
        result[name] = tensor
    return result


def _split(name: str, modules: Mapping[str, str]) -> tuple[str, str, str]:
    """The module in `ADM`, the part inside it, and "weight" or "bias"."""
    path, _, kind = name.rpartition(".")
    parts = path.split(".")
    for length in range(1, min(len(parts), 3) + 1):
        module = modules.get(".".join(parts[:length]))
        if module:
            return module, ".".join(parts[length:]), kind
    return "", path, kind
