"""Reads the `.pth` files of Song's score_sde_pytorch.

Such a file holds the optimizer, the network under names like `module.all_modules.12.Conv_0.weight`, and the
moving average of its parameters as a list without names. What is used is the moving average: `shadow_params` has the
trained parameters in the order in which `model` has them. The Fourier frequencies are not trained and come from
`model`. The architecture is recognised from the names and shapes. Whether DDPM++ weights are VP or sub-VP the file
does not say.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from ggf_cli.checkpoints.archive import check_storage
from ggf_cli.checkpoints.hashes import file_sha256
from ggf_cli.checkpoints.manifest import read_manifest
from ggf_cli.checkpoints.native import Checkpoint
from ggf_cli.checkpoints.tensors import read_pickle
from ggf_cli.errors import CheckpointError
from ggf_cli.registry import lookup
from ggf_cli.sde import SDE, VESDE, VPSDE, sde_from_dict


@dataclass(frozen=True)
class Architecture:
    """A published architecture.

    Attributes:
        size: Height and width of a sample.
        multipliers: Width of each level, in units of the first.
        attention: The level with attention.
        blocks: Residual blocks per down level.
        family: "ncsnpp" (LSUN, FFHQ, CelebA-HQ), "ncsnpp-cifar10" or "ddpmpp-cifar10".
    """

    size: int
    multipliers: tuple[int, ...]
    attention: int
    blocks: int
    family: str

    def config(self, width: int) -> dict[str, Any]:
        """The network's configuration, given the width of the first level."""
        return {
            "image_channels": 3,
            "channels": tuple(width * m for m in self.multipliers),
            "attention": tuple(level == self.attention for level in range(len(self.multipliers))),
            "blocks": self.blocks,
            **_FAMILIES[self.family],
        }

    @property
    def ve(self) -> bool:
        """Whether it is trained for the VE SDE; else VP or sub-VP."""
        return self.family != "ddpmpp-cifar10"


_VE = {"embedding": "fourier", "scale_by_sigma": True, "centered": False}
_FAMILIES: dict[str, dict[str, Any]] = {
    "ncsnpp": {**_VE, "progressive": "output_skip", "progressive_input": "input_skip"},
    "ncsnpp-cifar10": {**_VE, "progressive": "none", "progressive_input": "residual"},
    "ddpmpp-cifar10": {
        "embedding": "positional",
        "fir": False,
        "progressive": "none",
        "progressive_input": "none",
    },
}

# Recognised by how many `all_modules` there are.
_BY_MODULES = {
    77: Architecture(256, (1, 1, 2, 2, 2, 2, 2), 4, 2, "ncsnpp"),
    70: Architecture(1024, (1, 2, 4, 8, 16, 32, 32, 32), 6, 1, "ncsnpp"),
    59: Architecture(32, (1, 2, 2, 2), 1, 4, "ncsnpp-cifar10"),
    95: Architecture(32, (1, 2, 2, 2), 1, 8, "ncsnpp-cifar10"),
    55: Architecture(32, (1, 2, 2, 2), 1, 4, "ddpmpp-cifar10"),
    91: Architecture(32, (1, 2, 2, 2), 1, 8, "ddpmpp-cifar10"),
}


def read(path: Path, *, config: str | None = None) -> Checkpoint:
    """Read a `.pth` file.

    Args:
        path: The file.
        config: A name in `checkpoints.toml`: what it is, where the file does not say.

    Raises:
        CheckpointError: Corrupt, or not one of the published architectures, or not that of `config`.
        UsageError: No such config.
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
            hint="such a file has 'model' and 'ema'",
        ) from error
    try:
        architecture = _recognise(model, path)
        sde = (
            _sde(architecture, model, path) if config is None else _named_sde(architecture, config)
        )
        averaged = _average(model, shadow, path)
        check_storage(averaged.values(), path)
        first = (
            3 if architecture.ve else 2
        )  # the frequencies, and two layers for the time, come before
        network_config = architecture.config(len(averaged[f"all_modules.{first}.weight"]))
        names = _module_names(network_config)
        tensors = dict(_rename(name, tensor, names) for name, tensor in averaged.items())
    except (KeyError, IndexError, ValueError, TypeError, AttributeError) as error:
        raise CheckpointError(f"{path} has no tensors of that architecture: {error!r}") from error
    return Checkpoint(
        network="ncsnpp",
        network_config=network_config,
        parametrization="ve-continuous" if architecture.ve else "vp-continuous",
        sde=sde,
        shape=(3, architecture.size, architecture.size),
        tensors=tensors,
        provenance={
            "source": path.name,
            "format": "score_sde_pytorch",
            "file": path.name,
            "sha256": file_sha256(path),
            "step": step if isinstance(step := content.get("step"), int) else None,
        },
    )


def _recognise(model: dict[str, Tensor], path: Path) -> Architecture:
    numbers = [int(m[1]) for name in model if (m := re.match(r"all_modules\.(\d+)\.", name))]
    modules = max(numbers, default=-1) + 1
    if modules not in _BY_MODULES:
        raise CheckpointError(
            f"{path} has {modules} modules, which is no published architecture that ggf knows"
        )
    return _BY_MODULES[modules]


def _sde(architecture: Architecture, model: dict[str, Tensor], path: Path) -> SDE:
    """What the file says: the noise levels of VE; VP otherwise."""
    if not architecture.ve:
        return VPSDE()
    if "sigmas" not in model:
        raise CheckpointError(f"{path} lacks the noise levels", hint="say what it is by --config")
    # The buffer runs from sigma_max down to sigma_min.
    sigma_max, sigma_min = (round(float(model["sigmas"][i]), 6) for i in (0, -1))
    return VESDE(sigma_min=sigma_min, sigma_max=sigma_max)


def _named_sde(architecture: Architecture, config: str) -> SDE:
    """What the registry says."""
    entry = lookup(read_manifest(), config, "config", "see ggf list-models")
    sde = sde_from_dict(entry.sde)
    size = architecture.size
    if entry.shape != (3, size, size) or (sde.name == "ve") != architecture.ve:
        raise CheckpointError(
            f"this is no '{config}': the file is a {'VE' if architecture.ve else 'VP or sub-VP'}"
            f" network for {size}x{size} pixels"
        )
    return sde


def _average(model: dict[str, Tensor], shadow: list[Tensor], path: Path) -> dict[str, Tensor]:
    """The parameters by name: the moving average where there is one, else (the frequencies) as they are."""
    frequencies = {"all_modules.0.W"} & model.keys()
    trained = [name for name in model if name != "sigmas" and name not in frequencies]
    if len(trained) != len(shadow) or any(
        model[name].shape != average.shape for name, average in zip(trained, shadow, strict=False)
    ):
        raise CheckpointError(
            f"{path}: the moving average has {len(shadow)} tensors that do not match"
            f" the {len(trained)} parameters of the network"
        )
    averaged = dict(zip(trained, shadow, strict=True))
    return averaged | {name: model[name] for name in frequencies}


def _module_names(c: dict[str, Any]) -> list[str]:
    """Our name of `all_modules.0`, `.1`, …: the order in which Song's code makes them."""
    last = len(c["channels"]) - 1
    names = ["frequencies"] if c["embedding"] == "fourier" else []
    names += ["time_in", "time_out", "conv_in"]
    for level, attention in enumerate(c["attention"]):
        for block in range(c["blocks"]):
            names += [f"down.{level}.blocks.{block}"]
            names += [f"down.{level}.attentions.{block}"] * attention
        if level < last:
            names += [f"down.{level}.resample"]
            combine = {"input_skip": ["combine"], "residual": ["combine.down"]}
            names += [f"down.{level}.{n}" for n in combine.get(c["progressive_input"], [])]
    names += ["mid_in", "mid_attention", "mid_out"]
    for level, attention in enumerate(reversed(c["attention"])):
        names += [f"up.{level}.blocks.{block}" for block in range(c["blocks"] + 1)]
        names += [f"up.{level}.attention"] * attention
        if c.get("progressive") == "output_skip" or level == last:
            to_image = [f"up.{level}.to_image.norm", f"up.{level}.to_image.conv"]
        else:
            to_image = []
        resample = [f"up.{level}.resample"] if level < last else []
        # The finest level draws last whatever the kind of output.
        names += to_image + resample
    return names


_INSIDE_BLOCK = {
    "GroupNorm_0": "norm_1",
    "Conv_0": "conv_1",
    "Dense_0": "time",
    "GroupNorm_1": "norm_2",
    "Conv_1": "conv_2",
    "Conv_2": "shortcut",
}
_INSIDE_ATTENTION = {
    "GroupNorm_0": "norm",
    "NIN_0": "query",
    "NIN_1": "key",
    "NIN_2": "value",
    "NIN_3": "out",
}


def _rename(name: str, tensor: Tensor, names: list[str]) -> tuple[str, Tensor]:
    """Our name and layout of `all_modules.N.part.kind`."""
    _, number, *parts = name.split(".")
    module, kind = names[int(number)], parts[-1]
    if kind == "W" and len(parts) == 1:
        return module, tensor
    if len(parts) == 1:  # a layer of its own
        return f"{module}.{kind}", tensor
    if "attention" in module:
        if kind == "W":  # NIN multiplies from the other side
            tensor, kind = tensor.T, "weight"
        return f"{module}.{_INSIDE_ATTENTION[parts[0]]}.{'bias' if kind == 'b' else kind}", tensor
    if "combine" in module:
        return f"{module}.conv.{kind}", tensor
    return f"{module}.{_INSIDE_BLOCK[parts[0]]}.{kind}", tensor
