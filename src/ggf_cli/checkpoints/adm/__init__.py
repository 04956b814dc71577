"""Read the `.pt` files of guided-diffusion, improved-diffusion and consistency_models: ADM.

Such a file is a table of tensors and nothing else. `adm.structure` derives the network from their
names and shapes; `adm.settings` finds what they do not state: the heads, the image size, the noise
schedule.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from ggf_cli.checkpoints.adm.names import renamed
from ggf_cli.checkpoints.adm.schedules import diffusion
from ggf_cli.checkpoints.adm.settings import refuse, settle
from ggf_cli.checkpoints.adm.structure import recognise
from ggf_cli.checkpoints.archive import check_storage
from ggf_cli.checkpoints.hashes import file_sha256
from ggf_cli.checkpoints.native import Checkpoint
from ggf_cli.errors import CheckpointError
from ggf_cli.networks.adm import ADMConfig
from ggf_cli.parametrizations import PARAMETRIZATIONS

_DAMAGE = (LookupError, ValueError, TypeError, AttributeError, ArithmeticError, RuntimeError)
# The label of a network of consistency_models is 250 log(sigma), that of EDM is log(sigma) / 4.
_EDM_TIME_SCALE = 1000.0


def recognises(content: Mapping[str, Any]) -> bool:
    """Whether the content of a `.pt` file is a network of OpenAI's diffusion code."""
    return "time_embed.0.weight" in content


def read(path: Path, content: Mapping[str, Any], *, config: str | None = None) -> Checkpoint:
    """Read a `.pt` file.

    Args:
        path: The file.
        content: Its content, as `tensors.read_pickle` returns it.
        config: The settings that the file does not state: the name of a published file, settings
            like "image_size=64,num_heads=4,noise_schedule=cosine", or both; see `adm.settings`.
            Settings that neither states are assumed, and listed in the checkpoint's `assumptions`.

    Raises:
        CheckpointError: The file is corrupt or not supported, contradicts `config`, or needs a
            `config`.
        UsageError: `config` is malformed, or names no published file.
    """
    refuse(path.stem)
    if not all(isinstance(k, str) and isinstance(v, Tensor) for k, v in content.items()):
        raise CheckpointError(f"{path} is not a table of tensors")
    check_storage(content.values(), path)
    try:
        structure = recognise(content)
        training = settle(structure, path.stem, config)
        settings = training.settings
        parametrization, parametrization_config, sde = diffusion(settings)
        network = structure.network_config() | {
            "heads": settings.get("num_heads"),
            "head_channels": settings.get("num_head_channels"),
            "time_scale": _EDM_TIME_SCALE if parametrization == "edm" else 1.0,
        }
        tensors = renamed(
            structure,
            content,
            heads=ADMConfig(**network).heads_at,
            thirds=settings["use_new_attention_order"],
        )
    except _DAMAGE as error:
        raise CheckpointError(
            f"the tensors of {path} do not fit an ADM network: {error!r:.200}"
        ) from error
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error.message}", hint=error.hint) from error
    if parametrization not in PARAMETRIZATIONS:
        raise CheckpointError(
            f"{path} is a denoiser of EDM, and this version of ggf has no such parametrization",
            hint="upgrade ggf-cli",
        )
    return Checkpoint(
        network="adm",
        network_config=network,
        parametrization=parametrization,
        parametrization_config=parametrization_config,
        classes=structure.classes,
        sde=sde,
        shape=(structure.image_channels, *2 * (settings["image_size"],)),
        tensors=tensors,
        provenance={
            "source": path.name,
            "format": "guided-diffusion",
            "file": path.name,
            "sha256": file_sha256(path),
        },
        assumptions=training.assumptions(path.name),
    )
