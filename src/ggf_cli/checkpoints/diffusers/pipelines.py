"""Reads the layout of a folder: where network, scheduler and weights are, and whether it draws pixels at all.

A pipeline may hold more than a network and a scheduler: an autoencoder whose latents the network draws, a text encoder
whose embeddings it needs. What it holds stands in model_index.json.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ggf_cli.checkpoints.diffusers.configs import read_json
from ggf_cli.checkpoints.locate import INDEX, LATENT, WEIGHTS, no_weights
from ggf_cli.errors import CheckpointError

# Pipelines that draw pixels from noise with a network and a scheduler alone; None: the file does not say.
_PIPELINES = {
    None,
    "DDIMPipeline",
    "DDPMPipeline",
    "PNDMPipeline",
    "RePaintPipeline",
    "ScoreSdeVePipeline",
    "ScoreSdeVpPipeline",
}


def network_folder(folder: Path) -> Path:
    """Where the network is: in `unet`, as a pipeline has it, or in the folder itself."""
    unet = folder / "unet"
    alone = (folder / "config.json").exists() and not (unet / "config.json").exists()
    return unet if unet.is_dir() and not alone else folder


def scheduler_file(folder: Path) -> Path:
    """Where the configuration of the scheduler is."""
    pipeline = network_folder(folder) != folder
    return (folder / "scheduler" if pipeline else folder) / "scheduler_config.json"


def check_pipeline(folder: Path) -> None:
    """Refuse a folder whose network does not draw the data itself.

    Raises:
        CheckpointError: A latent, conditional or unknown pipeline; names the part.
    """
    if (folder / INDEX).exists():
        _check_index(read_json(folder / INDEX), folder / INDEX)
    else:
        _check_parts({part for part in LATENT if (folder / part).is_dir()}, folder)


def _check_index(index: dict[str, Any], file: Path) -> None:
    # A part may be left out: null, or [null, null]
    parts = {
        part
        for part, value in index.items()
        if not part.startswith("_") and (any(value) if isinstance(value, list) else value)
    }
    _check_parts(parts & set(LATENT), file)
    pipeline = index.get("_class_name")
    if not isinstance(pipeline, str | None) or pipeline not in _PIPELINES:
        raise CheckpointError(
            f"{file}: _class_name is {pipeline!r:.60}, which is not known to draw pixels from noise alone",
            hint=f"supported: {', '.join(sorted(filter(None, _PIPELINES)))}",
        )
    _check_parts(parts, file)


def _check_parts(parts: set[str], place: Path) -> None:
    for part in sorted(parts - {"unet", "scheduler"}):
        if part in LATENT:
            raise CheckpointError(
                f"{place} is a latent model: its network draws what its {part!r} turns into images",
                hint="ggf samples models whose network draws the pixels",
            )
        raise CheckpointError(
            f"{place}: the pipeline has {part!r:.60}, so its network may not draw images from noise alone",
            hint="ggf samples pipelines of a unet and a scheduler",
        )


def weights_file(folder: Path) -> Path:
    """The weights in the folder of a network.

    Raises:
        CheckpointError: There are none, or in a form that is not read; names what is there.
    """
    for name in WEIGHTS:
        if (folder / name).is_file():
            return folder / name
    raise no_weights(str(folder), sorted(path.name for path in folder.glob("*.*")))
