"""The training settings of an ADM network that its file does not state.

They are those of `--config`, else those of the published file of that name, else those of OpenAI's
training scripts, which are assumed and reported. Some have no usual value, and are asked for.

    64x64_diffusion                            the settings of this published file
    image_size=64,num_heads=4,noise_schedule=cosine        settings, named as OpenAI's flags
    64x64_diffusion,use_new_attention_order=false          both
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ggf_cli.checkpoints.adm.published import PUBLISHED, REFUSED
from ggf_cli.checkpoints.adm.schedules import MAX_LEVELS, MIN_LEVELS
from ggf_cli.checkpoints.adm.structure import Structure
from ggf_cli.checkpoints.settings import as_config, choice, flag, parse_settings, pixels
from ggf_cli.errors import CheckpointError, UsageError
from ggf_cli.registry import lookup

SCHEDULES = ("linear", "cosine", "edm")


def _whole(least: int, most: int) -> Callable[[str], int]:
    """A parser that accepts whole numbers in least..most."""

    def read(text: str) -> int:
        if not (text.isdecimal() and len(text) < 8 and least <= int(text) <= most):
            raise ValueError(f"a whole number from {least} to {most:,}")
        return int(text)

    return read


SETTINGS: dict[str, Callable[[str], Any]] = {
    "image_size": pixels,
    "num_heads": _whole(1, 1024),
    "num_head_channels": _whole(1, 65_536),
    "use_new_attention_order": flag,
    "noise_schedule": choice(*SCHEDULES),
    "diffusion_steps": _whole(MIN_LEVELS, MAX_LEVELS),
    "rescale_timesteps": flag,
    "predict_xstart": flag,
}
_HEADS = ("num_heads", "num_head_channels")
# The defaults of OpenAI's scripts that are assumed.
_USUAL = {"use_new_attention_order": False}
_USUAL_DISCRETE = {"diffusion_steps": 1000, "predict_xstart": False}
# The settings of discrete models.
_DISCRETE = {*_USUAL_DISCRETE, "rescale_timesteps"}


@dataclass(frozen=True)
class Training:
    """The training settings of a network: all of `SETTINGS` that apply.

    Attributes:
        settings: The settings.
        name: The published file whose settings they are; None: of none.
        assumed: Names of the settings that neither the file nor the user states.
    """

    settings: dict[str, Any]
    name: str | None
    assumed: tuple[str, ...]

    def assumptions(self, file: str) -> tuple[str, ...]:
        """A sentence that lists the assumed settings; none if nothing is assumed."""
        if not self.assumed:
            return ()
        assumed = as_config({key: self.settings[key] for key in self.assumed})
        source = (
            f"as in the published file {self.name}.pt, whose name and structure it has"
            if self.name
            else "as by default in OpenAI's training scripts"
        )
        sentence = (
            f"{file} does not state all of its training settings; assumed, {source}: {assumed}."
            " Wrong assumptions give wrong samples: give the right settings with `config`"
            " KEY=VALUE,... or `config` NAME where the .pt file is read"
        )
        return (sentence,)


def settle(structure: Structure, stem: str, config: str | None) -> Training:
    """Find every training setting.

    Args:
        structure: The structure of the network.
        stem: The name of the file without ".pt".
        config: The user's `--config`.

    Raises:
        CheckpointError: The file is refused, contradicts `config`, or lacks a setting that cannot
            be assumed.
        UsageError: `config` is malformed, or names no published file.
    """
    name, given = parse_settings(config, SETTINGS)
    if name is not None:
        name = name.removesuffix(".pt")
        refuse(name)
        if lookup(PUBLISHED, name, "config", "see docs/reference/adm.md").structure != structure:
            raise CheckpointError(
                f"the file is not {name}.pt: its network has another structure",
                hint="give the training settings: `config` KEY=VALUE,...",
            )
    same = stem if stem in PUBLISHED and PUBLISHED[stem].structure == structure else None
    source = name or same
    published = PUBLISHED[source].settings if source else {}
    if any(key in given for key in _HEADS):
        published = {key: value for key, value in published.items() if key not in _HEADS}
    settings = _USUAL | published | given
    if structure.planar:
        if given.get("use_new_attention_order") is False:
            raise CheckpointError(
                "the shapes in the file mean use_new_attention_order=true, which `config`"
                " contradicts"
            )
        settings["use_new_attention_order"] = True
    _require(settings, structure)
    if settings["noise_schedule"] == "edm":
        if extra := _DISCRETE & given.keys():
            raise UsageError(f"`config`: {min(extra)} is not for noise_schedule=edm")
        settings = {key: value for key, value in settings.items() if key not in _DISCRETE}
    else:
        settings = _USUAL_DISCRETE | settings
        if settings["diffusion_steps"] != 1000 and "rescale_timesteps" not in settings:
            raise _asking_for("rescale_timesteps", "true|false")
    known = given.keys() | (PUBLISHED[name].settings.keys() if name else set())
    known |= {"use_new_attention_order"} if name or structure.planar else set()
    known |= _USUAL_DISCRETE.keys() if name else set()
    return Training(settings, same, tuple(key for key in settings if key not in known))


def refuse(name: str) -> None:
    """Refuse a published file that has no usable score.

    Raises:
        CheckpointError: It is one.
    """
    if name in REFUSED:
        reason, hint = REFUSED[name]
        raise CheckpointError(f"{name}.pt {reason}", hint=hint)


def _require(settings: dict[str, Any], structure: Structure) -> None:
    """Refuse settings that lack one without a usual value."""
    if all(key in settings for key in _HEADS):
        raise UsageError("`config` has num_heads and num_head_channels, of which one decides")
    if "image_size" not in settings:
        # The published models have attention at 16x16 pixels.
        sizes = [str(16 << level) for level, has in enumerate(structure.attention) if has]
        raise _asking_for("image_size", "|".join(sizes) or "64")
    if not any(key in settings for key in _HEADS):
        raise _asking_for("number of attention heads", "", "num_heads=4, or num_head_channels=64")
    if "noise_schedule" not in settings:
        raise _asking_for("noise_schedule", "edm" if structure.planar else "linear|cosine")


def _asking_for(key: str, values: str, text: str | None = None) -> CheckpointError:
    """The error that asks for a setting."""
    return CheckpointError(
        f"the file does not state the {key} of its training, and the samples depend on it",
        hint=f"give it: `config` {text or f'{key}={values}'}; or the name of a published file",
    )
