"""Reads a diffusers `UNet2DModel` folder: config.json, weights, and the scheduler's SDE.

Two families hide behind that class: the DDPM U-Net of Ho et al. (google/ddpm-*), and NCSN++ (google/ncsnpp-*, blocks
named "Skip..."). Only the folder's data is read, never code from it. What the native networks cannot represent is refused
by name. Key spellings of 2022 and of today are both understood.
"""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

from ggf_cli.checkpoints.hashes import file_sha256
from ggf_cli.checkpoints.locate import WEIGHTS
from ggf_cli.checkpoints.native import Checkpoint
from ggf_cli.checkpoints.tensors import read_tensors
from ggf_cli.errors import CheckpointError, UsageError
from ggf_cli.sde import SDE, VESDE, VPSDE

MAX_CONFIG = 2**20  # bytes; published ones have up to 2 KB

# What both networks do, as diffusers configs say it; a missing key is its default.
_REQUIRED = {
    "act_fn": "silu",
    "resnet_time_scale_shift": "default",
    "downsample_type": "conv",
    "upsample_type": "conv",
    "class_embed_type": None,
    "num_class_embeds": None,
    "attn_norm_num_groups": None,
    "mid_block_type": "UNetMidBlock2D",
}
_DDPM = {
    "time_embedding_type": "positional",
    "center_input_sample": False,
    "mid_block_scale_factor": 1,
}
_NCSNPP = {
    "time_embedding_type": "fourier",
    "mid_block_scale_factor": 1.41421356237,
    "norm_num_groups": None,
    "norm_eps": 1e-6,
    "add_attention": True,
    "attention_head_dim": None,
}
# block type -> whether it has attention
_DDPM_BLOCKS = {
    "DownBlock2D": False,
    "AttnDownBlock2D": True,
    "UpBlock2D": False,
    "AttnUpBlock2D": True,
}
_NCSNPP_BLOCKS = {
    "SkipDownBlock2D": False,
    "AttnSkipDownBlock2D": True,
    "SkipUpBlock2D": False,
    "AttnSkipUpBlock2D": True,
}
# diffusers name -> ours, applied in turn; of two spellings, the second is that of 2022.
_RENAMES = (
    (r"^time_proj\.weight$", "frequencies"),
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


def read(folder: Path, *, sde: SDE | None = None) -> Checkpoint:
    """Read a folder in diffusers layout.

    Args:
        folder: Holds config.json, scheduler_config.json and a weights file; or, as a pipeline, the folders unet
            and scheduler with these.
        sde: The SDE, where it is known better than the folder knows it.

    Raises:
        CheckpointError: A file is missing or broken, or the architecture or SDE is not supported.
    """
    config = read_config(folder)
    unet, _ = _folders(folder)
    weights = next((unet / name for name in WEIGHTS if (unet / name).is_file()), None)
    if weights is None:
        raise CheckpointError(f"{unet} has no weights, {' or '.join(WEIGHTS)}")
    levels = len(config.network_config["channels"])
    tensors = {
        _rename(name, config.network, levels): tensor
        for name, tensor in read_tensors(weights).items()
        if name != "time_proj.W"  # a second copy of time_proj.weight, in files of 2022
    }
    provenance = {
        "source": folder.name,
        "format": "diffusers",
        "file": weights.name,
        "sha256": file_sha256(weights),
    }
    return replace(config, sde=sde or config.sde, tensors=tensors, provenance=provenance)


def read_config(folder: Path) -> Checkpoint:
    """All but the tensors: read the configurations, and refuse what is not supported. Raises as `read`."""
    unet, scheduler = _folders(folder)
    file = unet / "config.json"
    config = _read_json(file)
    try:
        network, network_config = _architecture(config, file)
        sde, parametrization = _scheduler(scheduler / "scheduler_config.json")
        size = config["sample_size"]
        return Checkpoint(
            network=network,
            network_config=network_config,
            parametrization=parametrization,
            sde=sde,
            shape=(config["in_channels"], size, size),
            tensors={},
        )
    except KeyError as error:
        raise CheckpointError(f"{unet} or {scheduler} is configured without {error}") from error
    except (TypeError, ValueError, UsageError) as error:
        raise CheckpointError(f"{folder} is configured badly: {error}") from error


def _folders(folder: Path) -> tuple[Path, Path]:
    """Where the network and the scheduler are: at the root, or in the folders of a pipeline."""
    pipeline = (folder / "unet").is_dir()
    return (folder / "unet", folder / "scheduler") if pipeline else (folder, folder)


def _architecture(config: dict[str, Any], file: Path) -> tuple[str, dict[str, Any]]:
    if config.get("_class_name") != "UNet2DModel":
        raise CheckpointError(
            f"{file}: _class_name is {config.get('_class_name')!r}, only 'UNet2DModel' is supported"
        )
    blocks = (*config["down_block_types"], *config["up_block_types"])
    ncsnpp = any(block in _NCSNPP_BLOCKS for block in blocks)
    known = _NCSNPP_BLOCKS if ncsnpp else _DDPM_BLOCKS
    for block in blocks:
        if block not in known:
            raise CheckpointError(
                f"{file}: block type {block!r} is not supported",
                hint=f"supported: {', '.join(_DDPM_BLOCKS)}; or {', '.join(_NCSNPP_BLOCKS)}",
            )
    for key, wanted in (_REQUIRED | (_NCSNPP if ncsnpp else _DDPM)).items():
        found = config.get(key, wanted)
        if found != wanted:
            raise CheckpointError(f"{file}: {key} is {found!r}, only {wanted!r} is supported")
    if config.get("out_channels", config["in_channels"]) != config["in_channels"]:
        raise CheckpointError(f"{file}: out_channels differs from in_channels")
    return ("ncsnpp", _ncsnpp(config)) if ncsnpp else ("unet", _unet(config))


def _ncsnpp(config: dict[str, Any]) -> dict[str, Any]:
    attention = [_NCSNPP_BLOCKS[block] for block in config["down_block_types"]]
    if attention != [_NCSNPP_BLOCKS[block] for block in reversed(config["up_block_types"])]:
        raise CheckpointError(
            "up and down blocks with attention at different levels are not supported"
        )
    return {
        "image_channels": config["in_channels"],
        "channels": list(config["block_out_channels"]),
        "attention": attention,
        "blocks": config["layers_per_block"],
        "embedding": "fourier",
        "progressive": "output_skip",
        "progressive_input": "input_skip",
        "scale_by_sigma": True,
        "centered": not config["center_input_sample"],
    }


def _unet(config: dict[str, Any]) -> dict[str, Any]:
    return {
        "image_channels": config["in_channels"],
        "channels": list(config["block_out_channels"]),
        "attention_down": [_DDPM_BLOCKS[block] for block in config["down_block_types"]],
        "attention_up": [_DDPM_BLOCKS[block] for block in config["up_block_types"]],
        "attention_mid": config.get("add_attention", True),
        "head_channels": config["attention_head_dim"],
        "blocks": config["layers_per_block"],
        "groups": config["norm_num_groups"],
        "norm_eps": config["norm_eps"],
        "time_cosine_first": config["flip_sin_to_cos"],
        "time_freq_shift": config["freq_shift"],
        "downsample_padding": config["downsample_padding"],
    }


def _scheduler(file: Path) -> tuple[SDE, str]:
    """The SDE and parametrisation that a scheduler's file stands for."""
    scheduler = _read_json(file)
    kind = scheduler.get("_class_name")
    match kind:
        case "ScoreSdeVpScheduler":
            betas = {"beta_min": scheduler["beta_min"], "beta_max": scheduler["beta_max"]}
            return VPSDE(**betas, t_eps=scheduler["sampling_eps"]), "vp-continuous"
        case "ScoreSdeVeScheduler" | "VeSdeScheduler":  # the latter is its name of 2022
            sigmas = {"sigma_min": scheduler["sigma_min"], "sigma_max": scheduler["sigma_max"]}
            return VESDE(**sigmas, t_eps=scheduler["sampling_eps"]), "ve-continuous"
        case "DDPMScheduler":
            if (scheduler["beta_schedule"], scheduler["num_train_timesteps"]) != ("linear", 1000):
                raise CheckpointError(
                    f"{file}: only 1000 linear betas are supported, not"
                    f" {scheduler['num_train_timesteps']} of schedule {scheduler['beta_schedule']!r}"
                )
            if scheduler.get("prediction_type", "epsilon") != "epsilon":
                raise CheckpointError(f"{file}: only prediction_type 'epsilon' is supported")
            beta_min, beta_max = 1000 * scheduler["beta_start"], 1000 * scheduler["beta_end"]
            return VPSDE(beta_min=beta_min, beta_max=beta_max), "vp-discrete"
    raise CheckpointError(
        f"{file}: scheduler {kind!r} is not supported",
        hint="supported: ScoreSdeVeScheduler, ScoreSdeVpScheduler, DDPMScheduler",
    )


def _rename(name: str, network: str, levels: int) -> str:
    """Our name of a tensor; `levels` is the number of resolutions."""
    for pattern, replacement in _RENAMES:
        name = re.sub(pattern, replacement, name)
    if (
        network == "ncsnpp"
    ):  # one attention a level; the last share of the image has names of its own
        name = re.sub(r"^up_blocks\.(\d+)\.attentions\.0\.", r"up.\1.attention.", name)
        return re.sub(r"^conv_(norm_)?out\.", _last_image(levels), name)
    name = re.sub(r"^up_blocks\.(\d+)\.attentions\.", r"up.\1.attentions.", name)
    return re.sub(r"^conv_norm_out\.", "norm_out.", name)


def _last_image(levels: int) -> Any:
    return lambda match: f"up.{levels - 1}.to_image.{'norm' if match[1] else 'conv'}."


def _read_json(path: Path) -> dict[str, Any]:
    try:
        if path.exists() and not path.is_file():  # a pipe would keep us waiting
            raise ValueError("it is not a file")
        if (size := path.stat().st_size) > MAX_CONFIG:
            raise ValueError(f"it has {size:,} bytes, a configuration has {MAX_CONFIG:,} at most")
        document = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(
            f"cannot read {path}: {error}", hint="it must be a JSON file beside the weights"
        ) from error
    if not isinstance(document, dict):
        raise CheckpointError(f"{path} is not a JSON object")
    return document
