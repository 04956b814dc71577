"""Read a diffusers `UNet2DModel` folder: configuration, weights, and the SDE of its scheduler.

Only the data of the folder is read, never code. A supported configuration gives the same output as
in diffusers (compared in tests/checkpoints/test_diffusers_grid.py). Otherwise the error names the
key that is not supported. The keys of 2022 and of today are both supported.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ggf_cli.checkpoints.diffusers.architecture import (
    Architecture,
    check_class,
    read_architecture,
)
from ggf_cli.checkpoints.diffusers.configs import MAX_CONFIG, read_json
from ggf_cli.checkpoints.diffusers.names import native_name
from ggf_cli.checkpoints.diffusers.pipelines import (
    check_pipeline,
    network_folder,
    scheduler_file,
    weights_file,
)
from ggf_cli.checkpoints.diffusers.schedulers import Schedule, check_kind, read_scheduler
from ggf_cli.checkpoints.hashes import file_sha256
from ggf_cli.checkpoints.native import Checkpoint
from ggf_cli.checkpoints.shards import is_index, parts_of, weight_map
from ggf_cli.checkpoints.tensors import read_tensors
from ggf_cli.errors import CheckpointError, UsageError
from ggf_cli.sde import SDE, VESDE

# With alpha(T) above this, the schedule does not turn the data into noise. DDPM has 0.006.
EARLY_END = 0.1

__all__ = ["MAX_CONFIG", "read", "read_config"]


def read(folder: Path, *, sde: SDE | None = None, weights: Path | None = None) -> Checkpoint:
    """Read a folder in diffusers layout.

    Args:
        folder: Has config.json, scheduler_config.json and a weights file; or is a pipeline, with
            these in the folders unet or unet_ema, and scheduler.
        sde: Replaces the SDE that the folder states.
        weights: The weights file, or the index of several; by default the best in the folder of the
            network.

    Raises:
        CheckpointError: A file is missing or damaged, or the pipeline, architecture or SDE is not
            supported.
    """
    config = read_config(folder)
    weights = weights or weights_file(network_folder(folder))
    levels = len(config.network_config["channels"])
    tensors = {
        native_name(name, config.network, levels): tensor
        for name, tensor in read_shards(weights).items()
        # A second copy of time_proj.weight, in files of 2022.
        if name != "time_proj.W"
    }
    provenance: dict[str, Any] = {
        "source": folder.name,
        "format": "diffusers",
        "file": weights.name,
        "sha256": file_sha256(weights),
    }
    if parts := parts_of(weights):
        provenance["parts"] = {part: file_sha256(weights.parent / part) for part in parts}
    assumptions = list(config.assumptions)
    if ".fp16." in weights.name:
        assumptions.append(
            f"the weights are rounded to half precision: only the fp16 variant, {weights.name}, is"
            " there"
        )
    return replace(
        config,
        sde=sde or config.sde,
        tensors=tensors,
        provenance=provenance,
        assumptions=tuple(assumptions),
    )


def read_shards(weights: Path) -> dict[str, Tensor]:
    """Read the tensors of a weights file, or of the files that an index names.

    Raises:
        CheckpointError: A file is missing or damaged, or lacks a tensor that the index states.
    """
    if not is_index(weights):
        return read_tensors(weights)
    files = weight_map(weights)
    tensors: dict[str, Tensor] = {}
    for part in parts_of(weights):
        found = read_tensors(weights.parent / part)
        wanted = {name for name, file in files.items() if file == part}
        if missing := sorted(wanted - found.keys()):
            raise CheckpointError(f"{weights}: {part} does not have {missing[0]!r:.80}")
        # Tensors that the index does not name are kept, and refused if the network lacks them.
        tensors |= found
    return tensors


def read_config(folder: Path) -> Checkpoint:
    """Read and check the configurations of a folder, without the tensors. Raises as `read`."""
    file = network_folder(folder) / "config.json"
    config = read_json(file)
    try:
        check_pipeline(folder)
        check_class(config, file)
        schedule = scheduler_file(folder)
        scheduler = read_json(schedule)
        check_kind(scheduler, schedule)
        architecture = read_architecture(config, file)
        stated = read_scheduler(scheduler, schedule)
        _check_labels(architecture, stated, file, schedule)
        return Checkpoint(
            network=architecture.network,
            network_config=architecture.config,
            parametrization=stated.parametrization,
            parametrization_config=stated.config,
            sde=stated.sde,
            shape=architecture.shape,
            tensors={},
            snr=scheduler.get("snr", 0.0),
            classes=architecture.classes,
            assumptions=tuple(_assumptions(folder, architecture, stated)),
        )
    except (ArithmeticError, LookupError, TypeError, ValueError, UsageError) as error:
        raise CheckpointError(f"the configuration of {folder} is not valid: {error}") from error


def _check_labels(architecture: Architecture, stated: Schedule, file: Path, schedule: Path) -> None:
    """Refuse a network that has no embedding for some label of the schedule."""
    if stated.labels and architecture.config.get("scale_by_sigma"):
        raise CheckpointError(
            f"{schedule} has a noise level 0, and time_embedding_type 'fourier' in {file} would"
            " take its logarithm",
            hint="use a fourier embedding with ScoreSdeVeScheduler",
        )
    learned = architecture.config.get("time_levels")
    if learned and stated.labels is None:
        raise CheckpointError(
            f"{file}: time_embedding_type 'learned' needs a scheduler with whole labels, and that"
            f" in {schedule} has continuous ones"
        )
    if learned and learned < stated.labels:
        raise CheckpointError(
            f"{file}: num_train_timesteps is {learned}, the number of learned time embeddings, but"
            f" {schedule} has {stated.labels} noise levels"
        )


def _assumptions(folder: Path, architecture: Architecture, stated: Schedule) -> Iterator[str]:
    """A sentence for each setting that the files do not state, or that samplers ignore."""
    sde = stated.sde
    network = network_folder(folder)
    if network.name == "unet_ema" and (folder / "unet" / "config.json").exists():
        yield "the weights are those of unet_ema, the moving average of unet"
    if stated.parametrization == "vp-continuous":
        yield (
            "the network's label of time t is assumed to be 999 t, as in score_sde_pytorch:"
            " ScoreSdeVpScheduler does not state it"
        )
    if architecture.config.get("time_levels"):
        yield "between noise levels, the learned time embedding is interpolated linearly"
    alpha = float(sde.alpha(torch.tensor([sde.T], dtype=torch.float64)))
    if stated.zero_levels:
        yield (
            f"the last {stated.zero_levels} of {stated.labels} noise levels, without any data"
            " (rescale_betas_zero_snr), have no score that can be sampled: samples start from"
            f" N(0, 1) at the level before, where x(T) still contains {alpha:.2%} of the data"
        )
    if not isinstance(sde, VESDE) and alpha > EARLY_END:
        yield (
            "samples are assumed to start from N(0, 1), although with these betas x(T) still"
            f" contains {alpha:.0%} of the data"
        )
