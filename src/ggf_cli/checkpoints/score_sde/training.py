"""How a network of score_sde_pytorch was trained: said by the user, assumed and told, or asked for.

A file can be read with any SDE, size of the images or resampling filter, and each gives samples, only one the right
ones. What the file does not state comes from, in this order:

1. the user: `--config`, see `score_sde.config`;
2. what the published models of that kind have in common. That is an assumption, and it is told;
3. an error that asks for it. So it is with the SDE of networks with a positional embedding: one and the same network was
   published as VP, sub-VP and discrete VP. And with the size of the images, unless the structure is that of a
   published model: a fully convolutional network with attention after one halving may be one for 32x32 pixels with
   attention at 16x16, as Song's all have it, or just as well one for 64x64.

Folder names like subvp/ are not taken for an answer: people move files.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from ggf_cli.checkpoints.manifest import read_manifest
from ggf_cli.checkpoints.score_sde.config import as_config, parse_config
from ggf_cli.checkpoints.score_sde.published import (
    PARAMETRIZATIONS,
    NoiseLevels,
    conventions,
    published_size,
)
from ggf_cli.checkpoints.score_sde.structure import Structure
from ggf_cli.errors import CheckpointError, UsageError
from ggf_cli.registry import lookup
from ggf_cli.sde import SDE, sde_from_dict

DISCRETE = 1000  # labels of the discrete models that ggf computes


@dataclass(frozen=True)
class Training:
    """How a network was trained.

    Attributes:
        structure: What names and shapes tell.
        levels: The noise levels in the file, if there are any.
        settings: The settings of `score_sde.config` that apply, and t_eps where a registered model has it.
        assumed: Names of those that neither the file nor the user states.
    """

    structure: Structure
    levels: NoiseLevels | None
    settings: dict[str, Any]
    assumed: tuple[str, ...]

    @property
    def parametrization(self) -> str:
        """How the network's output becomes the score."""
        return PARAMETRIZATIONS[self.settings["sde"]]

    def sde(self) -> SDE:
        """The forward SDE."""
        keys = ("beta_min", "beta_max", "t_eps")
        fields: dict[str, Any] = {k: self.settings[k] for k in keys if k in self.settings}
        name = self.settings["sde"].removesuffix("-discrete")
        if name == "ve" and self.levels:
            fields |= {"sigma_min": self.levels.sigma_min, "sigma_max": self.levels.sigma_max}
        data_range = (-1.0, 1.0) if self.settings["centered"] else (0.0, 1.0)
        return sde_from_dict({"name": name, "data_range": data_range, **fields})

    def network_config(self) -> dict[str, Any]:
        """What `NCSNpp` takes."""
        keys = ("fir", "skip_rescale", "centered", "scale_by_sigma")
        config = vars(self.structure) | {key: self.settings[key] for key in keys}
        if self.parametrization == "ve-discrete":  # which divides by sigma itself
            config["scale_by_sigma"] = False
        return config

    def assumptions(self, file: str) -> tuple[str, ...]:
        """The sentence that tells what is assumed, if anything is."""
        if not self.assumed:
            return ()
        said = as_config({key: self.settings[key] for key in self.assumed})
        sentence = (
            f"{file} does not state all of its training; assumed, as the published models have it: {said}."
            " Wrong assumptions give wrong samples: say what is right with --config KEY=VALUE,... or --config NAME"
            " where the .pth file is read"
        )
        return (sentence,)


def settle(structure: Structure, levels: NoiseLevels | None, config: str | None) -> Training:
    """Find every setting of the training.

    Raises:
        CheckpointError: One is missing that is not assumed; or the file contradicts the user.
        UsageError: Not a config.
    """
    name, said = parse_config(config)
    if name is not None:
        said = _registered(name, structure, levels) | said
    stated = {} if structure.fir is None else {"fir": structure.fir}
    if len(structure.channels) == 1:
        said["fir"] = False  # nothing is resampled
    if any(said.get(key, value) != value for key, value in stated.items()):
        raise CheckpointError(f"the names in the file tell {as_config(stated)}, --config does not")
    # All published networks with Fourier features are VE.
    usual = {"sde": "ve"} if structure.embedding == "fourier" else {}
    sde = said.get("sde", usual.get("sde"))
    if sde is not None:
        usual |= conventions(structure, sde, levels)
    settings = usual | said | stated
    for key in ("sde", "image_size", "fir"):
        if key not in settings:
            raise _asking_for(key, structure, levels)
    if not settings["fir"]:
        settings.pop("fir_kernel", None)
    assumed = tuple(key for key in settings if key not in said and key not in stated)
    training = Training(structure, levels, settings, assumed)
    _check(training)
    return training


def _registered(name: str, structure: Structure, levels: NoiseLevels | None) -> dict[str, Any]:
    """All settings of a registered model."""
    entry = lookup(read_manifest(), name, "config", "see ggf list-models")
    size, ve = published_size(structure, levels), structure.embedding == "fourier"
    # Models of the hub that are not VE are of other code, and discrete.
    of_song = entry.sde["name"] == "ve" or entry.file.endswith(".pth")
    if not of_song or entry.shape != (3, size, size) or ve != (entry.sde["name"] == "ve"):
        pixels = f"for {size}x{size} pixels" if size else "of no published structure"
        raise CheckpointError(
            f"this is no '{name}': the file is a {'VE' if ve else 'VP, sub-VP or discrete'} network {pixels}",
            hint="say how it was trained: --config sde=...,image_size=...",
        )
    sigma_max = entry.sde.get("sigma_max", 0)
    if ve and levels and not math.isclose(levels.sigma_max, sigma_max, rel_tol=1e-4):
        raise CheckpointError(
            f"this is no '{name}': sigma_max is {levels.sigma_max:g} in the file, not {sigma_max:g}"
        )
    own = {key: value for key, value in entry.sde.items() if key.startswith(("beta", "t_eps"))}
    return conventions(structure, entry.sde["name"], levels) | {"sde": entry.sde["name"], **own}


def _asking_for(key: str, structure: Structure, levels: NoiseLevels | None) -> CheckpointError:
    """The error that asks for a setting, with answers that suit the file."""
    size, fourier = published_size(structure, levels), structure.embedding == "fourier"
    answers = {
        "sde": "|".join(sde for sde in PARAMETRIZATIONS if sde != "ve"),
        "image_size": "|".join(str(16 * 2**i) for i, has in enumerate(structure.attention) if has) or "64",
        "fir": "true|false",
    }  # fmt: skip
    if fourier:
        del answers["sde"]
    names = [
        name
        for name, entry in read_manifest().items()
        if entry.file.endswith(".pth")
        and entry.shape == (3, size, size)
        and fourier == (entry.sde["name"] == "ve")
    ]
    return CheckpointError(
        f"the file does not state the {key} of its training, on which the samples depend",
        hint=f"say it: --config {key}={answers[key]}" + "".join(f", or {name}" for name in names),
    )


def _check(training: Training) -> None:
    """Refuse what score_sde_pytorch does not train, and what ggf does not compute."""
    structure, levels, settings = training.structure, training.levels, training.settings
    sde, fourier = settings["sde"], structure.embedding == "fourier"
    discrete = sde.endswith("-discrete")
    if (fourier and discrete) or (not fourier and sde == "ve"):
        embedding = "Fourier features" if fourier else "a positional embedding"
        instead = "ve" if fourier else "ve-discrete"
        raise CheckpointError(
            f"no network with {embedding} is trained with sde={sde}",
            hint=f"--config sde={instead}",
        )
    if sde.startswith("ve"):
        if levels is None:
            raise CheckpointError("the file lacks the noise levels, module.sigmas")
        if beta := [key for key in settings if key.startswith("beta")]:
            raise UsageError(f"--config: {beta[0]} is for VP and sub-VP, not for {sde}")
    if discrete and (levels is None or levels.count != DISCRETE):
        raise CheckpointError(
            f"sde={sde} is supported with {DISCRETE} noise levels, the file has {levels.count if levels else 'none'}"
        )
    if sde == "ve-discrete" and not settings["scale_by_sigma"]:
        raise CheckpointError("sde=ve-discrete with scale_by_sigma=false is not supported")
    if (
        structure.resblock == "ddpm"
        and not settings["skip_rescale"]
        and min(structure.channels) < 128
    ):
        raise CheckpointError(
            "a DDPM below 128 channels normalises in 32 groups, which ggf does not support"
        )
