"""The table of solvers. Reading it imports no torch; `ggf_cli.solvers.Adaptive` and friends load on use."""

from __future__ import annotations

from dataclasses import Field, fields
from typing import TYPE_CHECKING, Any

from ggf_cli.errors import UsageError
from ggf_cli.registry import Entry, did_you_mean, lookup

if TYPE_CHECKING:
    from ggf_cli.solvers.base import Solver

SOLVERS: dict[str, Entry] = {
    "adaptive": Entry(
        "ggf_cli.solvers.adaptive:Adaptive",
        "the paper's adaptive step-size solver, error control for each sample",
    ),
    "em": Entry(
        "ggf_cli.solvers.euler_maruyama:EulerMaruyama",
        "Euler–Maruyama, a fixed number of equal steps",
    ),
}


def make_solver(name: str, options: dict[str, Any] | None = None) -> Solver:
    """The solver called `name` with the given options; the rest keep their defaults.

    Raises:
        UsageError: No such solver, no such option, or a value out of range.
    """
    cls = lookup(SOLVERS, name, "solver", f"solvers: {', '.join(SOLVERS)}").load()
    known = [field.name for field in fields(cls)]
    for option in options or {}:
        if option not in known:
            owners = [n for n, e in SOLVERS.items() if option in map(_name, fields(e.load()))]
            has = f"{name} has {', '.join(map(_flag, known))}"
            raise UsageError(
                f"solver '{name}' has no option {_flag(option)}",
                hint=f"it is one of {', '.join(owners)}; {has}"
                if owners
                else did_you_mean(_flag(option), map(_flag, known), has),
            )
    solver: Solver = cls(**options or {})
    return solver


def _name(field: Field[Any]) -> str:
    return field.name


def _flag(option: str) -> str:
    return "--" + option.replace("_", "-")


def __getattr__(name: str) -> Any:
    for entry in SOLVERS.values():
        if entry.target.endswith(f":{name}"):
            return entry.load()
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
