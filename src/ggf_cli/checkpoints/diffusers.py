"""Reads a diffusers `UNet2DModel` folder: config.json, weights, and the scheduler's SDE.

Only the folder's data is read, never code from it. What the native networks cannot represent is refused by
name.
"""

from __future__ import annotations

import json
import pickle
import re
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from ggf_cli.checkpoints.native import Checkpoint, file_sha256
from ggf_cli.errors import CheckpointError
from ggf_cli.sde import VPSDE

WEIGHTS = ("diffusion_pytorch_model.safetensors", "diffusion_pytorch_model.bin")

# What the native U-Net does, as diffusers configs say it; a missing key is its old default.
_REQUIRED = {
    "_class_name": "UNet2DModel",
    "time_embedding_type": "positional",
    "act_fn": "silu",
    "center_input_sample": False,
    "mid_block_scale_factor": 1,
    "resnet_time_scale_shift": "default",
    "downsample_type": "conv",
    "upsample_type": "conv",
    "class_embed_type": None,
    "num_class_embeds": None,
    "attn_norm_num_groups": None,
}
_BLOCKS = {
    "DownBlock2D": False,
    "AttnDownBlock2D": True,
    "UpBlock2D": False,
    "AttnUpBlock2D": True,
}
# diffusers name -> ours, applied in turn; the second half of each attention pair is the 2022 spelling.
_RENAMES = (
    (r"^time_embedding\.linear_1\.", "time_in."),
    (r"^time_embedding\.linear_2\.", "time_out."),
    (r"^conv_norm_out\.", "norm_out."),
    (r"^(down|up)_blocks\.(\d+)\.resnets\.", r"\1.\2.blocks."),
    (r"^(down|up)_blocks\.(\d+)\.attentions\.", r"\1.\2.attentions."),
    (r"^(down|up)_blocks\.(\d+)\.(?:down|up)samplers\.0\.", r"\1.\2.resample."),
    (r"^mid_block\.resnets\.0\.", "mid_in."),
    (r"^mid_block\.resnets\.1\.", "mid_out."),
    (r"^mid_block\.attentions\.0\.", "mid_attention."),
    (r"\.(norm|conv)(1|2)\.", r".\1_\2."),
    (r"\.time_emb_proj\.", ".time."),
    (r"\.conv_shortcut\.", ".shortcut."),
    (r"\.group_norm\.", ".norm."),
    (r"\.to_q\.", ".query."),
    (r"\.to_k\.", ".key."),
    (r"\.to_v\.", ".value."),
    (r"\.(?:to_out\.0|proj_attn)\.", ".out."),
)


def read(folder: Path) -> Checkpoint:
    """Read a folder in diffusers layout.

    Raises:
        CheckpointError: A file is missing or broken, or the architecture or SDE is not supported.
    """
    config = _read_json(folder / "config.json")
    scheduler = _read_json(folder / "scheduler_config.json")
    weights = next((folder / name for name in WEIGHTS if (folder / name).is_file()), None)
    if weights is None:
        raise CheckpointError(f"{folder} has no weights, {' or '.join(WEIGHTS)}")
    size = config["sample_size"]
    return Checkpoint(
        network="unet",
        network_config=_network_config(config, folder),
        parametrization="vp-continuous",
        sde=_sde(scheduler, folder),
        shape=(config["in_channels"], size, size),
        tensors={_rename(name): tensor for name, tensor in _read_weights(weights).items()},
        provenance={
            "source": folder.name,
            "format": "diffusers",
            "file": weights.name,
            "sha256": file_sha256(weights),
        },
    )


def _network_config(config: dict[str, Any], folder: Path) -> dict[str, Any]:
    for key, wanted in _REQUIRED.items():
        found = config.get(key, wanted)
        if found != wanted:
            raise CheckpointError(
                f"{folder / 'config.json'}: {key} is {found!r}, only {wanted!r} is supported"
            )
    for block in (*config["down_block_types"], *config["up_block_types"]):
        if block not in _BLOCKS:
            raise CheckpointError(
                f"{folder / 'config.json'}: block type {block!r} is not supported",
                hint=f"supported: {', '.join(_BLOCKS)}",
            )
    return {
        "image_channels": config["in_channels"],
        "channels": config["block_out_channels"],
        "attention_down": [_BLOCKS[block] for block in config["down_block_types"]],
        "attention_up": [_BLOCKS[block] for block in config["up_block_types"]],
        "attention_mid": config.get("add_attention", True),
        "head_channels": config["attention_head_dim"],
        "blocks": config["layers_per_block"],
        "groups": config["norm_num_groups"],
        "norm_eps": config["norm_eps"],
        "time_cosine_first": config["flip_sin_to_cos"],
        "time_freq_shift": config["freq_shift"],
        "downsample_padding": config["downsample_padding"],
    }


def _sde(scheduler: dict[str, Any], folder: Path) -> VPSDE:
    kind = scheduler.get("_class_name")
    if kind != "ScoreSdeVpScheduler":
        raise CheckpointError(
            f"{folder / 'scheduler_config.json'}: scheduler {kind!r} is not supported",
            hint="supported: ScoreSdeVpScheduler (continuous VP)",
        )
    return VPSDE(
        beta_min=scheduler["beta_min"],
        beta_max=scheduler["beta_max"],
        t_eps=scheduler["sampling_eps"],
    )


def _rename(name: str) -> str:
    for pattern, replacement in _RENAMES:
        name = re.sub(pattern, replacement, name)
    return name


def _read_weights(path: Path) -> dict[str, Tensor]:
    try:
        if path.suffix == ".bin":
            # weights_only: a pickle from strangers must not run code.
            tensors: dict[str, Tensor] = torch.load(path, map_location="cpu", weights_only=True)
            return tensors
        return load_file(path)
    except (SafetensorError, OSError, RuntimeError, ValueError, pickle.UnpicklingError) as error:
        raise CheckpointError(f"{path} is corrupt or truncated: {error}") from error


def _read_json(path: Path) -> dict[str, Any]:
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"cannot read {path}: {error}") from error
    if not isinstance(document, dict):
        raise CheckpointError(f"{path} is not a JSON object")
    return document
