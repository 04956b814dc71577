"""Solvers. Does not import torch; classes such as `Adaptive` are imported on first use."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import TYPE_CHECKING, Any

from ggf_cli.registry import lookup
from ggf_cli.solvers.registry import SOLVERS

if TYPE_CHECKING:
    from ggf_cli.solvers.base import Solver

__all__ = ["SOLVERS", "make_solver"]


def make_solver(name: str, options: Mapping[str, Any] | None = None) -> Solver:
    """Make the solver called `name`; options that are not given keep their defaults.

    Raises:
        UsageError: No solver has this name.
        OptionError: The solver has no such option, or a value is out of range.
    """
    entry = lookup(SOLVERS, name, "solver", f"solvers: {', '.join(SOLVERS)}")
    known = [field.name for field in fields(entry.load())]
    for option in options or {}:
        if option not in known:
            # Imported here, so that `python -m ggf_cli.solvers.catalog` runs the module once.
            from ggf_cli.solvers.refusals import no_such_option

            raise no_such_option(name, option, known)
    solver: Solver = entry.load()(**options or {})
    return solver


def __getattr__(name: str) -> Any:
    for entry in SOLVERS.values():
        if entry.target.endswith(f":{name}"):
            return entry.load()
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
