"""Reads a diffusers `UNet2DModel` folder: config.json, weights, and the scheduler's SDE.

Only the folder's data is read, never code from it. Each configuration is computed as diffusers computes it, or refused by the
key that is not supported; tests/checkpoints/test_diffusers_grid.py compares the two. Key spellings of 2022 and of today are both
understood.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import torch

from ggf_cli.checkpoints.diffusers.architecture import read_architecture
from ggf_cli.checkpoints.diffusers.configs import MAX_CONFIG, read_json
from ggf_cli.checkpoints.diffusers.names import native_name
from ggf_cli.checkpoints.diffusers.pipelines import (
    check_pipeline,
    network_folder,
    scheduler_file,
    weights_file,
)
from ggf_cli.checkpoints.diffusers.schedulers import read_scheduler
from ggf_cli.checkpoints.hashes import file_sha256
from ggf_cli.checkpoints.native import Checkpoint
from ggf_cli.checkpoints.tensors import read_tensors
from ggf_cli.errors import CheckpointError, UsageError
from ggf_cli.sde import SDE, VESDE

EARLY_END = 0.1  # alpha(T) above which a schedule has not turned data into noise; DDPM's is 0.006

__all__ = ["MAX_CONFIG", "read", "read_config"]


def read(folder: Path, *, sde: SDE | None = None) -> Checkpoint:
    """Read a folder in diffusers layout.

    Args:
        folder: Holds config.json, scheduler_config.json and a weights file; or, as a pipeline, the folders unet
            and scheduler with these.
        sde: The SDE, where it is known better than the folder knows it.

    Raises:
        CheckpointError: A file is missing or broken, or the pipeline, architecture or SDE is not supported.
    """
    config = read_config(folder)
    weights = weights_file(network_folder(folder))
    levels = len(config.network_config["channels"])
    tensors = {
        native_name(name, config.network, levels): tensor
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
    file, schedule = network_folder(folder) / "config.json", scheduler_file(folder)
    config = read_json(file)
    try:
        check_pipeline(folder)
        network, network_config, shape = read_architecture(config, file)
        sde, parametrization = read_scheduler(scheduler := read_json(schedule), schedule)
        checkpoint = Checkpoint(
            network=network,
            network_config=network_config,
            parametrization=parametrization,
            sde=sde,
            shape=shape,
            tensors={},
            snr=scheduler.get("snr", 0.0),
            assumptions=tuple(_assumptions(sde, parametrization)),
        )
    except (ArithmeticError, LookupError, TypeError, ValueError, UsageError) as error:
        raise CheckpointError(f"{folder} is configured badly: {error}") from error
    if parametrization == "vp-discrete" and network_config.get("scale_by_sigma"):
        raise CheckpointError(
            f"{schedule}: {scheduler['_class_name']} has a level 0, of which time_embedding_type 'fourier' in {file}"
            " would take the logarithm",
            hint="a fourier embedding goes with ScoreSdeVeScheduler",
        )
    return checkpoint


def _assumptions(sde: SDE, parametrization: str) -> Iterator[str]:
    """What the files do not state, or state and samplers do not respect, a sentence each."""
    if parametrization == "vp-continuous":
        yield "the network's label of time t is assumed to be 999 t, as in score_sde_pytorch: ScoreSdeVpScheduler does not state it"
    alpha = float(sde.alpha(torch.tensor([sde.T], dtype=torch.float64)))
    if not isinstance(sde, VESDE) and alpha > EARLY_END:
        yield f"samples are assumed to start from N(0, 1), though by its betas x(T) holds {alpha:.0%} of the data"
