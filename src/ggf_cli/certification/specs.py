"""Names of samplers of other packages, with settings: "NAME:steps=50,SETTING=VALUE"."""

from __future__ import annotations

import ast
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from ggf_cli.errors import UsageError
from ggf_cli.registry import did_you_mean


@dataclass(frozen=True, kw_only=True)
class Spec:
    """A sampler of another package, as the user wrote it.

    Attributes:
        text: The whole text.
        name: The name of the sampler.
        steps: The number of steps; None if the text has none.
        settings: The other settings.
    """

    text: str
    name: str
    steps: int | None
    settings: dict[str, Any]

    def check_settings(self, accepted: Iterable[str]) -> None:
        """Check that every setting is accepted.

        Raises:
            UsageError: A setting is not; the hint suggests one that is spelled alike.
        """
        accepted = list(accepted)
        for key in self.settings:
            if key not in accepted:
                raise UsageError(
                    f"{self.text!r}: {self.name} has no setting {key}",
                    hint=did_you_mean(key, accepted, f"it has {', '.join(accepted) or 'none'}"),
                )


def parse_spec(text: str) -> Spec:
    """Read "NAME" or "NAME:steps=50,SETTING=VALUE". A value is a literal of Python or text.

    Raises:
        UsageError: A part is not SETTING=VALUE, or `steps` is no whole number >= 1.
    """
    name, _, rest = text.partition(":")
    given = dict(_setting(text, part) for part in rest.split(",") if part)
    steps = given.pop("steps", None)
    if steps is not None and (type(steps) is not int or steps < 1):
        raise UsageError(f"{text!r}: steps is {steps}, it must be a whole number >= 1")
    return Spec(text=text, name=name, steps=steps, settings=given)


def _setting(text: str, part: str) -> tuple[str, Any]:
    key, equals, value = part.partition("=")
    if not equals:
        raise UsageError(f"{text!r}: {part!r} is not SETTING=VALUE", hint="like steps=50")
    try:
        return key.strip(), ast.literal_eval(value)
    except (ValueError, SyntaxError):
        return key.strip(), value.strip()
