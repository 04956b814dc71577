"""Names to objects: one plain table for solvers, one for networks.

A table entry names its object as "module:attribute" and is imported when first used, so that listing and
help never import torch. A new entry is one line; there are no decorators and no import side effects.
"""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from ggf_cli.errors import UsageError

SDE_TITLES = {"ve": "VE", "vp": "VP", "subvp": "sub-VP"}  # as people write them

T = TypeVar("T")


@dataclass(frozen=True)
class Entry:
    """One line of a table: where the object is, and what it is in a few words."""

    target: str
    summary: str

    def load(self) -> Any:
        """Import the object."""
        module, attribute = self.target.split(":")
        return getattr(importlib.import_module(module), attribute)


def lookup(table: Mapping[str, T], name: str, kind: str, hint: str) -> T:
    """The entry called `name`, or a `UsageError` that says what was probably meant.

    Args:
        table: Where to look.
        name: What the user typed.
        kind: What the table holds, for the message ("solver").
        hint: What to do when nothing is close ("see ggf list-models").
    """
    if name in table:
        return table[name]
    raise UsageError(f"unknown {kind} '{name}'", hint=did_you_mean(name, table, hint))


def did_you_mean(name: str, choices: Iterable[str], otherwise: str) -> str:
    """ "did you mean 'church'?", followed by `otherwise`."""
    close = difflib.get_close_matches(name.lower(), list(choices), n=1)
    return f"did you mean '{close[0]}'? {otherwise}" if close else otherwise
