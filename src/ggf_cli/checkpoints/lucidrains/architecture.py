"""The network of a file of denoising-diffusion-pytorch, from the names and shapes of its tensors.

The names are those of `Unet`:

    init_conv, time_mlp.1, time_mlp.3              first convolution, time embedding
    downs.L.0 to .3, ups.L.0 to .3                 two blocks, attention and resampling of a level
    mid_block1, mid_attn, mid_block2               middle
    final_res_block, final_conv                    end
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from ggf_cli.errors import CheckpointError

Shapes = dict[str, tuple[int, ...]]

# Their names -> those of `LucidrainsUNet`: outside, inside a block, inside attention.
_OUTSIDE = {
    "init_conv": "conv_in",
    "time_mlp.1": "time_in",
    "time_mlp.3": "time_out",
    "mid_block1": "mid_in",
    "mid_attn": "mid_attention",
    "mid_block2": "mid_out",
    "final_res_block": "block_out",
    "final_conv": "conv_out",
}
_IN_LEVEL = ("block_1", "block_2", "attention", "resample")
_INSIDE = {
    "mlp.1": "time",
    "block1.proj": "conv_1",
    "block1.norm": "norm_1",
    "block2.proj": "conv_2",
    "block2.norm": "norm_2",
    "res_conv": "shortcut",
    "norm": "norm",
    "to_qkv": "qkv",
    "to_out": "out",
    "to_out.0": "out",
    "to_out.1": "norm_out",
    # The convolution after a resampling without tensors.
    "1": "conv",
    "": "",
}
_NAME = re.compile(
    r"(?P<outside>(?:downs|ups)\.[0-9]{1,3}\.[0-3]|time_mlp\.[13]|[a-z]+_[a-z0-9_]+?)"
    r"(?:\.(?P<inside>.+?))??\.?(?P<kind>weight|bias|g|mem_kv)"
)


def network_config(tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    """The configuration for `LucidrainsUNet`.

    Shapes that contradict each other are not found here, but when the network is built.

    Raises:
        CheckpointError: Another network, or one with unsupported parts; the message names them.
    """
    shapes: Shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    _check_kind(shapes)
    inputs, outputs = shapes["init_conv.weight"][1], shapes["final_conv.weight"][0]
    if inputs not in (outputs, 2 * outputs):
        raise CheckpointError(
            f"its network has {inputs} channels in and {outputs} out, so it also predicts a"
            " variance, or takes conditions that are images",
            hint="name your own code instead: FILE.py:OBJECT",
        )
    levels = 1 + max(int(m[1]) for n in shapes if (m := re.match(r"downs\.([0-9]{1,3})\.", n)))
    resamplings = [
        shapes.get(f"downs.{level}.3.1.weight") or shapes[f"downs.{level}.3.weight"]
        for level in range(levels)
    ]
    full, heads, widths = [], [], []
    for level in range(levels):
        is_full = f"downs.{level}.2.to_out.weight" in shapes
        found = _heads(shapes, f"downs.{level}.2", is_full)
        full.append(is_full)
        heads.append(found[0])
        widths.append(found[1])
    memory = shapes.get("mid_attn.mem_kv")
    return {
        "image_channels": outputs,
        "width": shapes["time_mlp.1.weight"][1],
        "channels": [shapes["init_conv.weight"][0], *(shape[0] for shape in resamplings)],
        "full_attention": full,
        "heads": heads,
        "head_channels": widths,
        "memory": memory[2] if memory else 0,
        "norm": "rms" if "mid_block1.block1.norm.g" in shapes else "group",
        "self_condition": inputs == 2 * outputs,
    }


def _check_kind(shapes: Shapes) -> None:
    """Refuse networks that are not supported, by the names of their tensors."""
    unsupported = {
        "classes_emb": "class labels (classifier_free_guidance.Unet)",
        "null_classes_emb": "class labels (classifier_free_guidance.Unet)",
        "time_mlp.0.weights": "a random or learned sinusoidal embedding",
        "downs.0.2.fn.norm.g": "the blocks of versions before 1.8",
        "downs.0.2.fn.fn.to_qkv.weight": "the blocks of versions before 1.8",
    }
    for name, what in unsupported.items():
        if name in shapes or f"{name}.weight" in shapes:
            raise CheckpointError(
                f"its network has {what}, which is not supported",
                hint="name your own code that builds the network: FILE.py:OBJECT, with"
                " ScoreModel.from_noise, from_denoiser or from_velocity",
            )
    needed = ("init_conv", "time_mlp.1", "final_conv", "downs.0.2.to_qkv")
    missing = [name for name in needed if f"{name}.weight" not in shapes]
    if missing:
        raise CheckpointError(
            f"its network is not Unet of denoising-diffusion-pytorch: it lacks {missing[0]}",
            hint="ggf reads Unet, for images; name your own code for others: FILE.py:OBJECT",
        )
    if len(shapes["init_conv.weight"]) != 4:
        raise CheckpointError("its network is not for images but for signals or volumes")


def _heads(shapes: Shapes, place: str, full: bool) -> tuple[int, int]:
    """Heads, and the width of a head, of an attention."""
    memory = shapes.get(f"{place}.mem_kv")
    if memory is None:
        # Before 1.9 they could not be chosen.
        return 4, shapes[f"{place}.to_qkv.weight"][0] // 12
    _, heads, a, b = memory
    return heads, b if full else a


def renamed(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors with the names and the memory layouts of `LucidrainsUNet`."""
    result = {}
    for name, tensor in tensors.items():
        match = _NAME.fullmatch(name)
        inside = _INSIDE.get((match["inside"] or "") if match else "?")
        if match is None or inside is None:
            raise CheckpointError(f"its tensor {name!r:.80} is unknown")
        parts = match["outside"].split(".")
        if parts[0] in ("downs", "ups"):
            outside = f"{parts[0][:-1]}.{parts[1]}.{_IN_LEVEL[int(parts[2])]}"
            if inside == "conv" and not outside.endswith("resample"):
                raise CheckpointError(f"its tensor {name!r:.80} is unknown")
        else:
            outside = _OUTSIDE.get(match["outside"], "?")
        kind = {"g": "gain", "mem_kv": "memory"}.get(match["kind"], match["kind"])
        # Linear attention has keys and values with the channels first.
        linear = f"{match['outside']}.to_out.weight" not in tensors
        if kind == "memory" and linear:
            tensor = tensor.transpose(2, 3)
        result[f"{outside}.{inside}.{kind}".replace("..", ".")] = tensor
    return result
