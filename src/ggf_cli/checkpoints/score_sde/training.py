"""Find the training settings of a network of score_sde_pytorch: SDE, image size, filter and more.

A file can be read with any SDE, image size or resampling filter. Each choice gives samples, but
only one gives the right samples. A setting that the file does not state comes from, in this order:

1. the user: `--config`, see `score_sde.config`;
2. the published models of that kind, if they all agree. That is an assumption, and it is reported;
3. nowhere: an error asks for it. This happens with the SDE of networks with a positional embedding,
   because the same network was published as VP, sub-VP and discrete VP. It also happens with the
   image size, unless the structure is that of a published model: a fully convolutional network with
   attention after one halving may be one for 32x32 pixels with attention at 16x16, as in all of
   Song's models, or one for 64x64 pixels.

Folder names like subvp/ are ignored: people move files.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from ggf_cli.checkpoints.manifest import read_manifest
from ggf_cli.checkpoints.score_sde.config import SETTINGS
from ggf_cli.checkpoints.score_sde.published import (
    PARAMETRIZATIONS,
    PUBLISHED,
    NoiseLevels,
    conventions,
    published_names,
    published_size,
)
from ggf_cli.checkpoints.score_sde.structure import Structure
from ggf_cli.checkpoints.settings import as_config, parse_settings
from ggf_cli.errors import CheckpointError, UsageError
from ggf_cli.registry import lookup
from ggf_cli.sde import SDE, sde_from_dict

# Noise levels of the discrete models that ggf supports.
DISCRETE = 1000


@dataclass(frozen=True)
class Training:
    """The training settings of a network.

    Attributes:
        structure: The structure, from the names and shapes of the tensors.
        levels: The noise levels in the file, if there are any.
        settings: The settings of `score_sde.config` that apply, and t_eps if a registered model
            states it.
        assumed: Names of the settings that neither the file nor the user states.
    """

    structure: Structure
    levels: NoiseLevels | None
    settings: dict[str, Any]
    assumed: tuple[str, ...]

    @property
    def parametrization(self) -> str:
        """The parametrization, a key of `score.PARAMETRIZATIONS`."""
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
        """The configuration for `NCSNpp`."""
        keys = ("fir", "skip_rescale", "centered", "scale_by_sigma")
        config = vars(self.structure) | {key: self.settings[key] for key in keys}
        # This parametrization divides by sigma itself.
        if self.parametrization == "ve-discrete":
            config["scale_by_sigma"] = False
        if self.settings.get("model") == "ddpm":
            config["groups"] = "ddpm"
        return config

    def assumptions(self, file: str) -> tuple[str, ...]:
        """A sentence that lists the assumed settings; none if nothing is assumed."""
        if not self.assumed:
            return ()
        assumed = as_config({key: self.settings[key] for key in self.assumed})
        sentence = (
            f"{file} does not state all of its training settings; assumed, as in the published"
            f" models: {assumed}. Wrong assumptions give wrong samples: give the right settings"
            " with `config` KEY=VALUE,... or `config` NAME where the .pth file is read"
        )
        return (sentence,)


def settle(structure: Structure, levels: NoiseLevels | None, config: str | None) -> Training:
    """Find every training setting.

    Args:
        structure: The structure of the network.
        levels: The noise levels in the file, if there are any.
        config: The user's `--config`.

    Raises:
        CheckpointError: A setting is missing and cannot be assumed, or the file contradicts
            `config`.
        UsageError: `config` is malformed, or names no model.
    """
    name, given = parse_settings(config, SETTINGS)
    if name is not None:
        known = _published if "/" in name else _registered
        given = known(name, structure, levels) | given
    stated = {} if structure.fir is None else {"fir": structure.fir}
    # A network of one level resamples nothing.
    if len(structure.channels) == 1:
        given["fir"] = False
    if any(given.get(key, value) != value for key, value in stated.items()):
        raise CheckpointError(
            f"the tensor names in the file mean {as_config(stated)}, which `config` contradicts",
            hint=f"leave fir out of `config`, or write {as_config(stated)}",
        )
    # All published networks with Fourier features are VE.
    usual = {"sde": "ve"} if structure.embedding == "fourier" else {}
    sde = given.get("sde", usual.get("sde"))
    if sde is not None:
        usual |= conventions(structure, sde, levels)
    settings = usual | given | stated
    for key in ("sde", "image_size", "fir"):
        if key not in settings:
            raise _asking_for(key, structure, levels)
    if not settings["fir"]:
        settings.pop("fir_kernel", None)
    assumed = tuple(key for key in settings if key not in given and key not in stated)
    training = Training(structure, levels, settings, assumed)
    _check(training)
    return training


def _published(name: str, structure: Structure, levels: NoiseLevels | None) -> dict[str, Any]:
    """All training settings of a published model; refused if the file is not that model."""
    _, _, sde = lookup(PUBLISHED, name, "config", f"published: {', '.join(PUBLISHED)}")
    names = published_names(structure, levels)
    if name not in names:
        raise CheckpointError(
            f"the file is not '{name}': "
            + (f"it may be {' or '.join(names)}" if names else "its network was not published"),
            hint="give the training settings: `config` sde=...,image_size=...",
        )
    return conventions(structure, sde, levels) | {"sde": sde}


def _registered(name: str, structure: Structure, levels: NoiseLevels | None) -> dict[str, Any]:
    """All training settings of a registered model; refused if the file is not that model."""
    entry = lookup(read_manifest(), name, "config", "see ggf list-models")
    size, ve = published_size(structure, levels), structure.embedding == "fourier"
    # Hub models that are not VE were trained with other code, and are discrete.
    of_song = entry.sde["name"] == "ve" or entry.file.endswith(".pth")
    if not of_song or entry.shape != (3, size, size) or ve != (entry.sde["name"] == "ve"):
        pixels = f"for {size}x{size} pixels" if size else "of no published structure"
        raise CheckpointError(
            f"the file is not '{name}': it is a {'VE' if ve else 'VP, sub-VP or discrete'} network"
            f" {pixels}",
            hint="give the training settings: `config` sde=...,image_size=...",
        )
    sigma_max = entry.sde.get("sigma_max", 0)
    if ve and levels and not math.isclose(levels.sigma_max, sigma_max, rel_tol=1e-4):
        raise CheckpointError(
            f"the file is not '{name}': its sigma_max is {levels.sigma_max:g}, not {sigma_max:g}"
        )
    own = {key: value for key, value in entry.sde.items() if key.startswith(("beta", "t_eps"))}
    return conventions(structure, entry.sde["name"], levels) | {"sde": entry.sde["name"], **own}


def _asking_for(key: str, structure: Structure, levels: NoiseLevels | None) -> CheckpointError:
    """The error that asks for a setting; the hint lists the values that are possible here."""
    size, fourier = published_size(structure, levels), structure.embedding == "fourier"
    # Song's models have attention at 16x16 pixels.
    sizes = [str(16 * 2**i) for i, has in enumerate(structure.attention) if has]
    answers = {
        "sde": "|".join(sde for sde in PARAMETRIZATIONS if sde != "ve"),
        "image_size": "|".join(sizes) or "64",
        "fir": "true|false",
    }
    if fourier:
        del answers["sde"]
    names = [
        name
        for name, entry in read_manifest().items()
        if entry.file.endswith(".pth")
        and entry.shape == (3, size, size)
        and fourier == (entry.sde["name"] == "ve")
        and structure.resblock == "biggan"
    ]
    names += published_names(structure, levels)
    return CheckpointError(
        f"the file does not state the {key} of its training, and the samples depend on it",
        hint=f"give it: `config` {key}={answers[key]}" + "".join(f", or {name}" for name in names),
    )


def _check(training: Training) -> None:
    """Refuse settings that score_sde_pytorch cannot train, or that ggf does not support."""
    structure, levels, settings = training.structure, training.levels, training.settings
    sde, fourier = settings["sde"], structure.embedding == "fourier"
    discrete = sde.endswith("-discrete")
    if (fourier and discrete) or (not fourier and sde == "ve"):
        embedding = "Fourier features" if fourier else "a positional embedding"
        instead = "ve" if fourier else "ve-discrete"
        raise CheckpointError(
            f"no network with {embedding} is trained with sde={sde}",
            hint=f"`config` sde={instead}",
        )
    if sde.startswith("ve"):
        if levels is None:
            raise CheckpointError("the file lacks the noise levels, module.sigmas")
        if beta := [key for key in settings if key.startswith("beta")]:
            raise UsageError(f"`config`: {beta[0]} is for VP and sub-VP, not for {sde}")
    if discrete and (levels is None or levels.count != DISCRETE):
        raise CheckpointError(
            f"sde={sde} is supported with {DISCRETE} noise levels,"
            f" the file has {levels.count if levels else 'none'}"
        )
    if sde == "ve-discrete" and not settings["scale_by_sigma"]:
        raise CheckpointError("sde=ve-discrete with scale_by_sigma=false is not supported")
    if settings.get("model") == "ddpm":
        if structure.resblock != "ddpm" or any(width % 32 for width in structure.channels):
            raise CheckpointError(
                "the network is not of the class ddpm: "
                + (
                    "its widths are not multiples of 32"
                    if structure.resblock == "ddpm"
                    else "its residual blocks are those of ncsnpp"
                ),
                hint="`config` model=ncsnpp",
            )
        if settings["skip_rescale"]:
            raise CheckpointError(
                "no network of the class ddpm is trained with skip_rescale=true",
                hint="`config` model=ncsnpp",
            )
