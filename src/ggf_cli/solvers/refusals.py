"""Refuse solvers and options that do not exist, and name what to use instead.

This module does not import torch, so that a wrong command ends at once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from ggf_cli.errors import OptionError
from ggf_cli.registry import did_you_mean, lookup
from ggf_cli.solvers.catalog import SolverInfo, owners, read_catalog

# The options with which a user sets the accuracy: of adaptive solvers, and of fixed steps.
TOLERANCES = ("eps_rel", "eps_abs")
BUDGETS = ("steps", "nfe")


def find_solver(name: str) -> SolverInfo:
    """Return the properties and options of a solver.

    Raises:
        UsageError: No solver has this name; the hint suggests one.
    """
    catalog = read_catalog()
    return lookup(catalog, name, "solver", f"solvers: {', '.join(catalog)}")


def check_options(solver: str, options: Iterable[str]) -> None:
    """Check the names of a solver and of its options.

    Raises:
        UsageError: No solver has this name.
        OptionError: The solver has no such option.
    """
    known = find_solver(solver).options
    for option in options:
        if option not in known:
            raise no_such_option(solver, option, known)


def no_such_option(solver: str, option: str, known: Iterable[str]) -> OptionError:
    """The error for an option that a solver does not have.

    Args:
        solver: The name of the solver.
        option: The name of the option.
        known: The options of the solver.
    """
    known = list(known)
    return OptionError(
        f"solver '{solver}' has no option {option}",
        option=option,
        others=known,
        hint=instead(solver, option, known, lambda name: f"`{name}`"),
    )


def instead(solver: str, option: str, known: Iterable[str], spell: Callable[[str], str]) -> str:
    """The hint for an option that a solver does not have: its own one, and who has this one.

    Args:
        solver: The name of the solver.
        option: The name of the option.
        known: The options of the solver.
        spell: How the reader writes an option, given its name in Python.
    """
    known = list(known)
    own = ", ".join(map(spell, known))
    others = owners(option)
    if not others:
        plain = [spell(name).strip("`") for name in known]
        return did_you_mean(spell(option).strip("`"), plain, f"{solver} has {own}")
    have = f"solvers with {spell(option)}: {', '.join(others)}"
    if option in BUDGETS and TOLERANCES[0] in known:
        return f"{solver} chooses its own step sizes, set {spell(TOLERANCES[0])}; {have}"
    if option in TOLERANCES and BUDGETS[0] in known:
        budgets = " or ".join(spell(name) for name in BUDGETS)
        return f"{solver} has fixed step sizes, set {budgets}; {have}"
    return f"{have}; {solver} has {own}"
