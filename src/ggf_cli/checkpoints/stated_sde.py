"""The SDE that the user states with `--sde`, for files that do not state theirs.

ve                              its name
vp,beta_min=0.1,beta_max=10     and its parameters
vp-discrete                     a network of score_sde_pytorch that was trained at 1000 noise levels

It is a part of `--config`: "vp,beta_max=10" means "sde=vp,beta_max=10". An SDE that differs from
the one that a file, the registry or code states is refused. This module does not import torch.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from ggf_cli.checkpoints.settings import number
from ggf_cli.errors import UsageError
from ggf_cli.registry import SDE_TITLES, did_you_mean

if TYPE_CHECKING:
    from ggf_cli.score import ScoreModel
    from ggf_cli.sde import SDE

# Parameters of the SDEs, of which each has some.
PARAMETERS = ("beta_min", "beta_max", "sigma_min", "sigma_max", "s", "T")
# score_sde_pytorch names them so; the SDE is the one without the suffix.
_DISCRETE = ("ve-discrete", "vp-discrete")
NAMES = (*(name for name in SDE_TITLES if name != "custom"), *_DISCRETE)


@dataclass(frozen=True)
class StatedSDE:
    """An SDE as the user states it.

    Attributes:
        name: Its name, one of `NAMES`.
        fields: Its parameters, as far as they are given.
    """

    name: str
    fields: dict[str, float]

    def __str__(self) -> str:
        return ",".join((self.name, *(f"{key}={value:g}" for key, value in self.fields.items())))

    def make(self, data_range: tuple[float, float]) -> SDE:
        """The SDE; parameters that are not given are those of its class.

        Raises:
            UsageError: It has no such parameter, or a value is not valid.
        """
        from ggf_cli.sde import sde_from_dict

        return sde_from_dict({"name": self.name, **self.fields, "data_range": data_range})

    def check(self, sde: SDE, what: str) -> None:
        """Refuse an SDE that is not the stated one.

        Args:
            sde: The SDE of the model.
            what: The model or file, for the message.

        Raises:
            UsageError: The name differs, or a parameter that is given.
        """
        same = sde.name == self.name.removesuffix("-discrete") and all(
            math.isclose(getattr(sde, key, math.nan), value, rel_tol=1e-4)
            for key, value in self.fields.items()
        )
        if not same:
            own = {
                key: value for key in PARAMETERS if (value := getattr(sde, key, None)) is not None
            }
            raise UsageError(
                f"`sde` is {self}, but the SDE of {what} is {StatedSDE(sde.name, own)}",
                hint="leave out `sde`: it is for what a file does not state",
            )


def combine(config: str | None, *, sde: str | None = None, size: int | None = None) -> str | None:
    """Add `--sde` and `--size` to `--config`; the size is the setting `image_size`.

    Raises:
        UsageError: `sde` is malformed, or `config` has another SDE or size.
    """
    if size is not None:
        before = dict(map(_pair, (config or "").split(","))).get("image_size", str(size))
        if before != str(size):
            raise UsageError(f"`size` is {size}, but `config` has image_size={before}")
        rest = [part for part in (config or "").split(",") if _pair(part)[0] != "image_size"]
        config = ",".join(filter(None, (*rest, f"image_size={size}")))
    if sde is None:
        return config
    stated = split_sde(f"sde={sde}")[1]
    assert stated is not None
    other, found = split_sde(config)
    if found is not None and found != stated:
        raise UsageError(f"`sde` is {stated}, but `config` has sde={found}")
    return ",".join(filter(None, (other, f"sde={stated}")))


def split_sde(config: str | None) -> tuple[str | None, StatedSDE | None]:
    """Split `--config` into the settings of the format, and the SDE if it is stated.

    "cifar10-vp,sde=vp,beta_max=10" -> "cifar10-vp", StatedSDE("vp", {"beta_max": 10.0})

    Raises:
        UsageError: An unknown SDE, or a parameter that is not a number.
    """
    parts = [part.strip() for part in config.split(",")] if config is not None else []
    names = [name for key, name in map(_pair, parts) if key == "sde"]
    if not names:
        return config, None
    name = names[-1].lower().replace("sub-vp", "subvp")
    if name not in NAMES:
        hint = did_you_mean(name, NAMES, f"one of {', '.join(NAMES)}")
        raise UsageError(f"`sde` is {names[-1]!r:.40}, which is no SDE", hint=hint)
    fields: dict[str, float] = {}
    rest = []
    for part in parts:
        key, value = _pair(part)
        if key in PARAMETERS:
            fields[key] = _number(key, value)
        elif key != "sde":
            rest.append(part)
    return ",".join(rest) or None, StatedSDE(name, fields)


def for_training(config: str | None, stated: StatedSDE | None) -> str | None:
    """The settings for score_sde_pytorch, which have the SDE among them.

    Its noise levels sigma are in the file: `StatedSDE.check` compares them.
    """
    if stated is None:
        return config
    betas = [f"{key}={v!r}" for key, v in stated.fields.items() if key.startswith("beta")]
    return ",".join(filter(None, (config, f"sde={stated.name}", *betas)))


def with_stated(model: ScoreModel, stated: StatedSDE | None) -> ScoreModel:
    """A model whose SDE must be the stated one, with the statement in its provenance.

    Raises:
        UsageError: It has another SDE.
    """
    if stated is None:
        return model
    stated.check(model.sde, model.name)
    return replace(model, provenance={**(model.provenance or {}), "config": f"sde={stated}"})


def _pair(part: str) -> tuple[str, str]:
    """The key and the value of "key=value"."""
    key, _, value = part.partition("=")
    return key.strip(), value.strip()


def _number(key: str, value: str) -> float:
    try:
        return number(value)
    except ValueError as error:
        raise UsageError(f"`sde`: {key} is {value!r:.40}, it must be {error}") from error
