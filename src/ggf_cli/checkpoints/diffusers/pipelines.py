"""Find network, scheduler and weights in a diffusers folder, and check that it is a pixel model.

A pipeline may have more parts than a network and a scheduler: an autoencoder, whose latents the
network generates, or a text encoder, whose embeddings the network needs. model_index.json lists the
parts.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ggf_cli.checkpoints.diffusers.configs import read_json
from ggf_cli.checkpoints.locate import (
    INDEX,
    LATENT,
    NETWORKS,
    SCHEDULER,
    WEIGHTS,
    no_scheduler,
    no_weights,
)
from ggf_cli.checkpoints.refusals import NO_SCORE
from ggf_cli.errors import CheckpointError

# Pipelines that generate pixels from noise with only a network and a scheduler. None: the file does
# not name its pipeline.
_PIPELINES = {
    None,
    "DDIMPipeline",
    "DDPMPipeline",
    "KarrasVePipeline",
    "PNDMPipeline",
    "RePaintPipeline",
    "ScoreSdeVePipeline",
    "ScoreSdeVpPipeline",
}


def network_folder(folder: Path) -> Path:
    """The folder of the network: unet_ema or unet in a pipeline, otherwise the folder itself."""
    for name in NETWORKS:
        if (folder / name / "config.json").exists():
            return folder / name
    alone = (folder / "config.json").exists()
    return folder / "unet" if (folder / "unet").is_dir() and not alone else folder


def scheduler_file(folder: Path) -> Path:
    """The path of the scheduler's configuration.

    Raises:
        CheckpointError: There is none; the hint names the file to add.
    """
    pipeline = network_folder(folder) != folder
    name = f"scheduler/{SCHEDULER}" if pipeline else SCHEDULER
    if (folder / name).exists():
        return folder / name
    above = folder.absolute().parent
    hint = ""
    if (above / "scheduler" / SCHEDULER).exists():
        if pipeline:
            # A checkpoint of a training lies in the folder of its pipeline.
            hint = f"if it was trained with that of {above}: cp -r {above}/scheduler {folder}"
        elif folder.name in NETWORKS:
            hint = f"give the folder of the pipeline, {above}"
    raise no_scheduler(str(folder), name, hint)


def check_pipeline(folder: Path) -> None:
    """Refuse a folder whose network does not generate the data itself.

    Raises:
        CheckpointError: A latent, conditional or unknown pipeline; the message names the part.
    """
    if (folder / INDEX).exists():
        _check_index(read_json(folder / INDEX), folder / INDEX)
    else:
        _check_parts({part for part in LATENT if (folder / part).is_dir()}, folder)


def _check_index(index: dict[str, Any], file: Path) -> None:
    # A part that is left out is null or [null, null].
    parts = {
        part
        for part, value in index.items()
        if not part.startswith("_") and (any(value) if isinstance(value, list) else value)
    }
    _check_parts(parts & set(LATENT), file)
    pipeline = index.get("_class_name")
    if pipeline == "ConsistencyModelPipeline":
        raise CheckpointError(
            f"{file}: _class_name is {pipeline!r}, a consistency model, which has no score",
            hint=NO_SCORE,
        )
    if not isinstance(pipeline, str | None) or pipeline not in _PIPELINES:
        raise CheckpointError(
            f"{file}: _class_name is {pipeline!r:.60}, which is not a supported pipeline: it may"
            " need more than noise, or generate latents",
            hint=f"supported: {', '.join(sorted(filter(None, _PIPELINES)))}",
        )
    _check_parts(parts, file)


def _check_parts(parts: set[str], place: Path) -> None:
    for part in sorted(parts - {"unet", "scheduler"}):
        if part in LATENT:
            raise CheckpointError(
                f"{place} is a latent model: its network generates latents, and its {part!r} turns"
                " them into images",
                hint="ggf samples models whose network generates the pixels",
            )
        raise CheckpointError(
            f"{place}: the pipeline has {part!r:.60}, so its network may not generate images from"
            " noise alone",
            hint="ggf samples pipelines that have only a unet and a scheduler",
        )


def weights_file(folder: Path) -> Path:
    """The weights file in the folder of a network.

    Raises:
        CheckpointError: There are no weights, or they have another name.
    """
    for name in WEIGHTS:
        if (folder / name).is_file():
            return folder / name
    raise no_weights(str(folder), sorted(path.name for path in folder.glob("*.*")))
