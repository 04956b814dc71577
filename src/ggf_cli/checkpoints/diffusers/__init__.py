"""Read a diffusers `UNet2DModel` folder: configuration, weights, and the SDE of its scheduler.

Only the data of the folder is read, never code. A supported configuration gives the same output as
in diffusers (compared in tests/checkpoints/test_diffusers_grid.py). Otherwise the error names the
key that is not supported. The keys of 2022 and of today are both supported.
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

# With alpha(T) above this, the schedule does not turn the data into noise. DDPM has 0.006.
EARLY_END = 0.1

__all__ = ["MAX_CONFIG", "read", "read_config"]


def read(folder: Path, *, sde: SDE | None = None) -> Checkpoint:
    """Read a folder in diffusers layout.

    Args:
        folder: Has config.json, scheduler_config.json and a weights file; or is a pipeline, with
            these in the folders unet and scheduler.
        sde: Replaces the SDE that the folder states.

    Raises:
        CheckpointError: A file is missing or damaged, or the pipeline, architecture or SDE is not
            supported.
    """
    config = read_config(folder)
    weights = weights_file(network_folder(folder))
    levels = len(config.network_config["channels"])
    tensors = {
        native_name(name, config.network, levels): tensor
        for name, tensor in read_tensors(weights).items()
        # A second copy of time_proj.weight, in files of 2022.
        if name != "time_proj.W"
    }
    provenance = {
        "source": folder.name,
        "format": "diffusers",
        "file": weights.name,
        "sha256": file_sha256(weights),
    }
    return replace(config, sde=sde or config.sde, tensors=tensors, provenance=provenance)


def read_config(folder: Path) -> Checkpoint:
    """Read and check the configurations of a folder, without the tensors. Raises as `read`."""
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
        raise CheckpointError(f"the configuration of {folder} is not valid: {error}") from error
    if parametrization == "vp-discrete" and network_config.get("scale_by_sigma"):
        raise CheckpointError(
            f"{schedule}: {scheduler['_class_name']} has a noise level 0, and time_embedding_type"
            f" 'fourier' in {file} would take its logarithm",
            hint="use a fourier embedding with ScoreSdeVeScheduler",
        )
    return checkpoint


def _assumptions(sde: SDE, parametrization: str) -> Iterator[str]:
    """A sentence for each setting that the files do not state, or that samplers ignore."""
    if parametrization == "vp-continuous":
        yield (
            "the network's label of time t is assumed to be 999 t, as in score_sde_pytorch:"
            " ScoreSdeVpScheduler does not state it"
        )
    alpha = float(sde.alpha(torch.tensor([sde.T], dtype=torch.float64)))
    if not isinstance(sde, VESDE) and alpha > EARLY_END:
        yield (
            "samples are assumed to start from N(0, 1), although with these betas x(T) still"
            f" contains {alpha:.0%} of the data"
        )
