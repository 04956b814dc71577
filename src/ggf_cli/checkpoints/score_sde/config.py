"""Parse `--config`: training settings of a network that its file does not state.

cifar10-subvp                        the training settings of this registered model
sde=vp,image_size=64,fir=true        settings, named as in the configurations of score_sde_pytorch
cifar10-vp,beta_max=10               both
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ggf_cli.checkpoints.score_sde.published import PARAMETRIZATIONS
from ggf_cli.errors import UsageError
from ggf_cli.registry import did_you_mean


def _choice(*allowed: str) -> Callable[[str], str]:
    """A parser that accepts these words, in any case."""

    def read(text: str) -> str:
        if text.lower() not in allowed:
            raise ValueError(f"one of {', '.join(allowed)}")
        return text.lower()

    return read


def _flag(text: str) -> bool:
    return _choice("true", "false")(text) == "true"


def _pixels(text: str) -> int:
    if not (text.isdecimal() and len(text) < 6 and int(text)):
        raise ValueError("a whole number of pixels")
    return int(text)


def _number(text: str) -> float:
    # The SDE checks the range.
    try:
        return float(text)
    except ValueError as error:
        raise ValueError("a number") from error


SETTINGS: dict[str, Callable[[str], Any]] = {
    "sde": _choice(*PARAMETRIZATIONS),
    "image_size": _pixels,
    "fir": _flag,
    "fir_kernel": _choice("1-3-3-1"),
    "skip_rescale": _flag,
    "scale_by_sigma": _flag,
    "centered": _flag,
    "nonlinearity": _choice("swish"),
    "beta_min": _number,
    "beta_max": _number,
}


def parse_config(config: str | None) -> tuple[str | None, dict[str, Any]]:
    """Split `--config` into a model name and settings.

    "cifar10-vp,beta_max=10" -> "cifar10-vp", {"beta_max": 10.0}

    Raises:
        UsageError: An unknown setting, a value that is not valid, or two names.
    """
    name, settings = None, {}
    for part in config.split(",") if config is not None else ():
        key, equals, value = (text.strip() for text in part.partition("="))
        if not equals and name is None:
            name = key
        elif key not in SETTINGS:
            hint = did_you_mean(key, SETTINGS, f"settings: {', '.join(SETTINGS)}")
            raise UsageError(f"`config` has an unknown setting {key!r}", hint=hint)
        else:
            try:
                settings[key] = SETTINGS[key](value)
            except ValueError as error:
                raise UsageError(f"`config`: {key} is {value!r}, it must be {error}") from error
    return name, settings


def as_config(settings: Mapping[str, Any]) -> str:
    """Write settings in the syntax of `--config`."""
    return ",".join(
        f"{key}={str(value).lower() if isinstance(value, bool) else value}"
        for key, value in settings.items()
    )
