"""Read the `.pt` checkpoints of lucidrains' denoising-diffusion-pytorch.

Its `Trainer` writes the keys step, model, opt, ema, scaler and version. `model` is the state of a
`GaussianDiffusion`: buffers with the noise levels, and the network under `model.`. `ema` has the
moving average of the same tensors under `ema_model.`, which ggf uses.

The buffers state the noise levels and what the network predicts (`lucidrains.schedule`); names and
shapes state the network (`lucidrains.architecture`). The file does not state the size of the
images; it is asked for. The rest is assumed, and reported.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from ggf_cli.checkpoints.archive import check_storage
from ggf_cli.checkpoints.hashes import file_sha256
from ggf_cli.checkpoints.lucidrains.architecture import network_config, renamed
from ggf_cli.checkpoints.lucidrains.schedule import (
    OBJECTIVES,
    read_betas,
    read_objective,
    sde_of,
)
from ggf_cli.checkpoints.native import Checkpoint
from ggf_cli.checkpoints.settings import (
    as_config,
    choice,
    flag,
    number,
    parse_settings,
    pixels,
)
from ggf_cli.errors import CheckpointError, UsageError

SETTINGS: dict[str, Callable[[str], Any]] = {
    "image_size": pixels,
    "objective": choice(*OBJECTIVES),
    "auto_normalize": flag,
    "sinusoidal_pos_emb_theta": number,
    "resnet_block_groups": pixels,
}
_DAMAGE = (LookupError, ValueError, TypeError, AttributeError, ArithmeticError, RuntimeError)


def recognises(content: Mapping[str, Any]) -> bool:
    """Whether `Trainer` of denoising-diffusion-pytorch wrote a file, by its content."""
    model = content.get("model")
    return (
        {"step", "ema"} <= content.keys()
        and isinstance(model, Mapping)
        and any(isinstance(name, str) and name.startswith("model.") for name in model)
    )


def read(path: Path, content: Mapping[str, Any], *, config: str | None = None) -> Checkpoint:
    """Read a `.pt` file.

    Args:
        path: The file.
        content: What `tensors.read_pickle` returned for it.
        config: The settings that the file does not state, like "image_size=64", named as the
            arguments of `GaussianDiffusion` and `Unet`.

    Raises:
        CheckpointError: The file is corrupt or not supported, or needs a `config`.
        UsageError: `config` is malformed.
    """
    name, given = parse_settings(config, SETTINGS)
    if name is not None:
        raise UsageError(f"`config` has no '=': {name!r}", hint="like image_size=64")
    try:
        state = _named(content["model"], "")
        network, averaged = _network(content["ema"], state)
        architecture = network_config(network)
        betas = read_betas(state)
        stated = read_objective(betas, state.get("loss_weight"))
        tensors = renamed(network)
    except _DAMAGE as error:
        raise CheckpointError(
            f"{path} is not a checkpoint of denoising-diffusion-pytorch that ggf can read:"
            f" {error!r:.200}"
        ) from error
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error.message}", hint=error.hint) from error
    check_storage(tensors.values(), path)

    assumed: dict[str, Any] = {"auto_normalize": True, "sinusoidal_pos_emb_theta": 10000.0}
    if architecture["norm"] == "group":
        assumed["resnet_block_groups"] = 8
    settings = assumed | {"objective": stated} | given
    if "resnet_block_groups" in given and architecture["norm"] == "rms":
        raise UsageError(f"`config`: the network in {path} has no resnet_block_groups")
    _check(settings, stated, 2 ** (len(architecture["heads"]) - 1), path)
    architecture["theta"] = settings["sinusoidal_pos_emb_theta"]
    architecture["groups"] = settings.get("resnet_block_groups", 8)
    size = settings["image_size"]
    data_range = (-1.0, 1.0) if settings["auto_normalize"] else (0.0, 1.0)
    step, version = content.get("step"), content.get("version")
    return Checkpoint(
        network="lucidrains",
        network_config=architecture,
        parametrization="vp-table",
        parametrization_config={"betas": betas, "prediction": OBJECTIVES[settings["objective"]]},
        sde=sde_of(betas, data_range),
        shape=(architecture["image_channels"], size, size),
        tensors=tensors,
        provenance={
            "source": path.name,
            "format": "denoising-diffusion-pytorch",
            "file": path.name,
            "sha256": file_sha256(path),
            "step": step if isinstance(step, int) else None,
            "version": version[:40] if isinstance(version, str) else None,
        },
        assumptions=_assumptions(
            path.name,
            {key: value for key, value in assumed.items() if key not in given},
            averaged=averaged,
            self_condition=architecture["self_condition"],
        ),
    )


def _named(state: Any, prefix: str) -> dict[str, Tensor]:
    """The tensors whose names have a prefix, without it."""
    return {
        name.removeprefix(prefix): tensor
        for name, tensor in state.items()
        if name.startswith(prefix) and isinstance(tensor, Tensor)
    }


def _network(ema: Any, state: dict[str, Tensor]) -> tuple[dict[str, Tensor], bool]:
    """The tensors of the network, and whether they are the moving average."""
    initted = ema.get("initted") if isinstance(ema, Mapping) else None
    ready = not isinstance(initted, Tensor) or bool(initted.all())
    averaged = _named(ema, "ema_model.model.") if isinstance(ema, Mapping) and ready else {}
    return averaged or _named(state, "model."), bool(averaged)


def _check(settings: dict[str, Any], stated: str | None, factor: int, path: Path) -> None:
    """Refuse settings that are missing or not valid; the image size is a multiple of `factor`."""
    if "image_size" not in settings:
        raise CheckpointError(
            f"{path}: the file does not state the image_size of its training, and the samples"
            " depend on it",
            hint=f"give it: `config` image_size=64 (a multiple of {factor})",
        )
    if settings["image_size"] % factor:
        raise UsageError(
            f"`config`: image_size is {settings['image_size']}, the network in {path} needs a"
            f" multiple of {factor}"
        )
    if settings["objective"] is None:
        raise CheckpointError(
            f"{path}: what the network predicts does not follow from the weights of the loss",
            hint=f"give it: `config` objective={'|'.join(OBJECTIVES)}",
        )
    if stated is not None and settings["objective"] != stated:
        raise CheckpointError(
            f"{path}: the weights of the loss are those of objective={stated}, which `config`"
            " contradicts",
            hint="leave objective out of `config`",
        )


def _assumptions(
    file: str, assumed: dict[str, Any], *, averaged: bool, self_condition: bool
) -> tuple[str, ...]:
    """A sentence for everything that the file does not state or ggf does not use."""
    sentences = []
    if assumed:
        sentences.append(
            f"{file} does not state all of its training settings; assumed, as by default:"
            f" {as_config(assumed)}. Wrong assumptions give wrong samples: give the right settings"
            " with `config` KEY=VALUE,... where the .pt file is read"
        )
    if not averaged:
        sentences.append(f"{file} has no moving average of the weights, so the last ones are used")
    if self_condition:
        sentences.append(
            f"the network in {file} also takes its last estimate of the data (self_condition); ggf"
            " gives it zeros, as in half of the steps of its training"
        )
    return tuple(sentences)
