"""Translate the tensor names of a diffusers `UNet2DModel` to those of the native networks."""

from __future__ import annotations

import re
from typing import Any

# diffusers name -> native name, applied in this order. Of two alternatives, the second is of 2022.
_RENAMES = (
    (r"^time_proj\.weight$", "frequencies"),
    (r"^class_embedding\.weight$", "class_table.weight"),
    (r"^class_embedding\.linear_1\.", "class_in."),
    (r"^class_embedding\.linear_2\.", "class_out."),
    (r"^time_embedding\.linear_1\.", "time_in."),
    (r"^time_embedding\.linear_2\.", "time_out."),
    (r"^(down|up)_blocks\.(\d+)\.resnets\.", r"\1.\2.blocks."),
    (r"^down_blocks\.(\d+)\.attentions\.", r"down.\1.attentions."),
    (
        r"^(down|up)_blocks\.(\d+)\.(?:(?:down|up)samplers\.0|resnet_(?:down|up))\.",
        r"\1.\2.resample.",
    ),
    (r"^down_blocks\.(\d+)\.skip_conv\.", r"down.\1.combine.conv."),
    (r"^up_blocks\.(\d+)\.skip_(norm|conv)\.", r"up.\1.to_image.\2."),
    (r"^mid_block\.resnets\.0\.", "mid_in."),
    (r"^mid_block\.resnets\.1\.", "mid_out."),
    (r"^mid_block\.attentions\.0\.", "mid_attention."),
    (r"\.(norm|conv)(1|2)\.", r".\1_\2."),
    (r"\.time_emb_proj\.", ".time."),
    (r"\.conv_shortcut\.", ".shortcut."),
    (r"\.group_norm\.", ".norm."),
    (r"\.(?:to_q|query)\.", ".query."),
    (r"\.(?:to_k|key)\.", ".key."),
    (r"\.(?:to_v|value)\.", ".value."),
    (r"\.(?:to_out\.0|proj_attn)\.", ".out."),
)


def native_name(name: str, network: str, levels: int) -> str:
    """The native name of a tensor.

    Args:
        name: Its name in diffusers.
        network: "ncsnpp" or "unet".
        levels: The number of resolutions.
    """
    for pattern, replacement in _RENAMES:
        name = re.sub(pattern, replacement, name)
    # NCSN++ has one attention on each level up; its last image output has other names.
    if network == "ncsnpp":
        name = re.sub(r"^up_blocks\.(\d+)\.attentions\.0\.", r"up.\1.attention.", name)
        return re.sub(r"^conv_(norm_)?out\.", _last_image(levels), name)
    name = re.sub(r"^up_blocks\.(\d+)\.attentions\.", r"up.\1.attentions.", name)
    # A table of learned embeddings, not frequencies.
    name = re.sub("^frequencies$", "time_table.weight", name)
    return re.sub(r"^conv_norm_out\.", "norm_out.", name)


def _last_image(levels: int) -> Any:
    """The replacement, for `re.sub`, that names the image output of the last level."""
    return lambda match: f"up.{levels - 1}.to_image.{'norm' if match[1] else 'conv'}."
