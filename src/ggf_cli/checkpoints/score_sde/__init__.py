"""Read the `.pth` checkpoints of Song's score_sde_pytorch.

Such a file has the optimizer state, the network in `model` under names like
`module.all_modules.12.Conv_0.weight`, and the moving average of its parameters as a list without
names. ggf uses the moving average: `shadow_params` has the trained parameters in the order of
`model`. The Fourier frequencies are not trained and come from `model`.

`score_sde.recognise` derives the network from the names and shapes of its tensors.
`score_sde.training` finds the settings that the file does not state: the SDE, the image size and
others.
"""

from __future__ import annotations

import re
from pathlib import Path

import torch
from torch import Tensor

from ggf_cli.checkpoints.archive import check_storage
from ggf_cli.checkpoints.hashes import file_sha256
from ggf_cli.checkpoints.native import Checkpoint
from ggf_cli.checkpoints.score_sde.published import NoiseLevels
from ggf_cli.checkpoints.score_sde.recognise import SUPPORTED, recognise
from ggf_cli.checkpoints.score_sde.structure import renamed
from ggf_cli.checkpoints.score_sde.training import settle
from ggf_cli.checkpoints.tensors import read_pickle
from ggf_cli.errors import CheckpointError

# The most noise levels in a file; published files have up to 2000.
MAX_LEVELS = 2**20
_DAMAGE = (LookupError, ValueError, TypeError, AttributeError, ArithmeticError, RuntimeError)


def read(path: Path, *, config: str | None = None) -> Checkpoint:
    """Read a `.pth` file.

    Args:
        path: The file.
        config: The settings that the file does not state: a name in `checkpoints.toml`, settings
            like "sde=vp,image_size=64", or both; see `score_sde.config`. Settings that neither
            states are assumed, and listed in the checkpoint's `assumptions`.

    Raises:
        CheckpointError: The file is corrupt or not supported, contradicts `config`, or needs a
            `config`.
        UsageError: `config` is malformed, or names no model.
    """
    content = read_pickle(path)
    try:
        model: dict[str, Tensor] = {
            name.removeprefix("module."): tensor for name, tensor in content["model"].items()
        }
        shadow: list[Tensor] = content["ema"]["shadow_params"]
    except (KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(
            f"{path} is not a checkpoint of score_sde_pytorch: it lacks {error}",
            hint="such a file has the keys 'model' and 'ema'",
        ) from error
    try:
        averaged = _average(model, shadow, path)
        structure = recognise(averaged)
        training = settle(structure, _noise_levels(model), config)
        tensors = renamed(structure, averaged)
    except _DAMAGE as error:
        raise CheckpointError(
            f"the tensors of {path} do not fit that architecture: {error!r}"
        ) from error
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error.message}", hint=error.hint or SUPPORTED) from error
    check_storage(averaged.values(), path)
    return Checkpoint(
        network="ncsnpp",
        network_config=training.network_config(),
        parametrization=training.parametrization,
        sde=training.sde(),
        shape=(structure.image_channels, *2 * (training.settings["image_size"],)),
        tensors=tensors,
        provenance={
            "source": path.name,
            "format": "score_sde_pytorch",
            "file": path.name,
            "sha256": file_sha256(path),
            "step": step if isinstance(step := content.get("step"), int) else None,
        },
        assumptions=training.assumptions(path.name),
    )


def _average(model: dict[str, Tensor], shadow: list[Tensor], path: Path) -> dict[str, Tensor]:
    """The parameters by name: the moving average, and the frequencies, which have none."""
    frequencies = {"all_modules.0.W"} & model.keys()
    trained = [name for name in model if name != "sigmas" and name not in frequencies]
    if len(trained) != len(shadow) or any(
        model[name].shape != average.shape for name, average in zip(trained, shadow, strict=False)
    ):
        numbers = [int(m[1]) for n in trained if (m := re.match(r"all_modules\.([0-9]{1,6})\.", n))]
        raise CheckpointError(
            f"the moving average has {len(shadow)} tensors that do not match the {len(trained)}"
            f" parameters of the network's {max(numbers, default=-1) + 1} modules"
        )
    averaged = dict(zip(trained, shadow, strict=True))
    return averaged | {name: model[name] for name in frequencies}


def _noise_levels(model: dict[str, Tensor]) -> NoiseLevels | None:
    """Read the buffer `sigmas`, a geometric sequence from sigma_max down to sigma_min."""
    if "sigmas" not in model:
        return None
    sigmas = model["sigmas"]
    if sigmas.dim() != 1 or not sigmas.is_floating_point() or not 2 <= len(sigmas) <= MAX_LEVELS:
        raise CheckpointError(
            f"its noise levels, module.sigmas, have shape {tuple(sigmas.shape)} and type"
            f" {sigmas.dtype}; expected is a list of 2 or more floating-point numbers"
        )
    sigmas = sigmas.double()
    largest, smallest = (round(float(sigmas[i]), 6) for i in (0, -1))
    log = torch.linspace(sigmas[0].log(), sigmas[-1].log(), len(sigmas), dtype=torch.float64)
    if not largest > smallest > 0 or not torch.allclose(sigmas, log.exp(), rtol=1e-4):
        raise CheckpointError(
            "its noise levels, module.sigmas, are not a decreasing geometric sequence"
        )
    return NoiseLevels(smallest, largest, len(sigmas))
