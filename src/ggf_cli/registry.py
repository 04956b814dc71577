"""Tables of named objects: the entry type, and look-up with a suggestion for a misspelt name.

An entry names its object as "module:attribute" and imports it on first use, so that listing and
help do not import torch. A new entry is one line in a table; there are no decorators and no import
side effects.
"""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from ggf_cli.errors import UsageError

# How text for people spells the SDEs.
SDE_TITLES = {
    "ve": "VE",
    "vp": "VP",
    "subvp": "sub-VP",
    "cosine": "cosine VP",
    "edm": "EDM",
    "flow": "flow matching",
    "custom": "custom",
}

T = TypeVar("T")


@dataclass(frozen=True)
class Entry:
    """An entry of a table: the import path of the object, and a summary in a few words."""

    target: str
    summary: str

    def load(self) -> Any:
        """Import the object."""
        module, attribute = self.target.split(":")
        return getattr(importlib.import_module(module), attribute)


def lookup(table: Mapping[str, T], name: str, kind: str, hint: str) -> T:
    """Return the entry called `name`.

    Args:
        table: The table.
        name: The name to look up.
        kind: The kind of entry, for the message ("solver").
        hint: The hint to give in the message ("see ggf list-models").

    Raises:
        UsageError: There is no such entry; the hint suggests a name that is spelled alike.
    """
    if name in table:
        return table[name]
    raise UsageError(f"unknown {kind} '{name}'", hint=did_you_mean(name, table, hint))


def did_you_mean(name: str, choices: Iterable[str], otherwise: str) -> str:
    """Suggest a choice that is spelled like `name`: "did you mean 'church'? " + `otherwise`."""
    by_lower = {choice.lower(): choice for choice in choices}
    close = difflib.get_close_matches(name.lower(), list(by_lower), n=1)
    return f"did you mean '{by_lower[close[0]]}'? {otherwise}" if close else otherwise
