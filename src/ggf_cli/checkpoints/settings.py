"""Parse `--config`: settings that a checkpoint file does not state.

sde=vp,image_size=64,fir=true        settings; each format has its own
cifar10-subvp                        the settings of a known model, where a format has such names
cifar10-vp,beta_max=10               both
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ggf_cli.errors import UsageError
from ggf_cli.registry import did_you_mean


def choice(*allowed: str) -> Callable[[str], str]:
    """A parser that accepts these words, in any case."""

    def read(text: str) -> str:
        if text.lower() not in allowed:
            raise ValueError(f"one of {', '.join(allowed)}")
        return text.lower()

    return read


def flag(text: str) -> bool:
    """Parse true or false."""
    return choice("true", "false")(text) == "true"


def pixels(text: str) -> int:
    """Parse a size of images, from 1 to 99,999."""
    if not (text.isdecimal() and len(text) < 6 and int(text)):
        raise ValueError("a whole number of pixels")
    return int(text)


def number(text: str) -> float:
    """Parse a number. Its range is checked where it is used."""
    try:
        return float(text)
    except ValueError as error:
        raise ValueError("a number") from error


def parse_settings(
    config: str | None, table: Mapping[str, Callable[[str], Any]]
) -> tuple[str | None, dict[str, Any]]:
    """Split `--config` into a model name and settings.

    "cifar10-vp,beta_max=10" -> "cifar10-vp", {"beta_max": 10.0}

    Args:
        config: The text; None is no settings.
        table: The settings of the format, and their parsers.

    Raises:
        UsageError: An unknown setting, a value that is not valid, or two names.
    """
    name, settings = None, {}
    for part in config.split(",") if config is not None else ():
        key, equals, value = (text.strip() for text in part.partition("="))
        if not equals and name is None:
            name = key
        elif key not in table:
            hint = did_you_mean(key, table, f"settings: {', '.join(table)}")
            raise UsageError(f"`config` has an unknown setting {key!r}", hint=hint)
        else:
            try:
                settings[key] = table[key](value)
            except ValueError as error:
                raise UsageError(f"`config`: {key} is {value!r}, it must be {error}") from error
    return name, settings


def as_config(settings: Mapping[str, Any]) -> str:
    """Write settings in the syntax of `--config`."""
    return ",".join(
        f"{key}={str(value).lower() if isinstance(value, bool) else value}"
        for key, value in settings.items()
    )
