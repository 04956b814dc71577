"""Generate the flags of the solver options from the catalog.

An option of several solvers is one flag; each solver has its own default.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Annotated, Any

import typer

from ggf_cli.cli import values
from ggf_cli.solvers.catalog import OptionInfo, flag, owners, read_catalog

# The solver parses a sequence of numbers from its text.
_TYPES = {"int": int, "float": float, "bool": bool, "text": str, "numbers": str}
_METAVARS = {"int": "N", "float": "NUMBER", "bool": None, "text": "TEXT", "numbers": "NUMBERS"}


def with_solver_options(command: Callable[..., None]) -> Callable[..., None]:
    """Add the flags of all solvers to a command.

    Args:
        command: A command with the parameter `solver_options`: {name: value} of the given flags.
    """

    @functools.wraps(command)
    def wrapper(**arguments: Any) -> None:
        given = {name: arguments.pop(name) for name in flags}
        chosen = {name: value for name, value in given.items() if value is not None}
        command(**arguments, solver_options=chosen)

    names = dict.fromkeys(name for solver in read_catalog().values() for name in solver.options)
    flags = {name: _parameter(name, owners(name)) for name in names}
    parameters: list[inspect.Parameter] = []
    for parameter in inspect.signature(command, eval_str=True).parameters.values():
        parameters += flags.values() if parameter.name == "solver_options" else [parameter]
    wrapper.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    wrapper.__annotations__ = {p.name: p.annotation for p in parameters}
    return wrapper


def _parameter(name: str, solvers: list[str]) -> inspect.Parameter:
    catalog = read_catalog()
    option = catalog[solvers[0]].options[name]
    declaration = f"{flag(name)}/{flag('no_' + name)}" if option.type == "bool" else flag(name)
    info = typer.Option(
        declaration,
        metavar="|".join(option.choices) if option.choices else _METAVARS[option.type],
        parser=_parser(name, option),
        help=_help(name, solvers),
        show_default=_defaults(name, solvers),
        rich_help_panel="Solver",
    )
    return inspect.Parameter(
        name,
        inspect.Parameter.POSITIONAL_OR_KEYWORD,
        default=None,
        annotation=Annotated[_TYPES[option.type] | None, info],
    )


def _parser(name: str, option: OptionInfo) -> Callable[[str], int | float] | None:
    """The parser of a number; None: Typer's own for the type."""
    if option.type == "int":
        return values.whole(flag(name))
    return values.real(flag(name), share=bool(option.share)) if option.type == "float" else None


def _help(name: str, solvers: list[str]) -> str:
    """The help of an option; one text for each solver if they differ."""
    by_text: dict[str, list[str]] = {}
    for solver in solvers:
        by_text.setdefault(read_catalog()[solver].options[name].help, []).append(solver)
    if len(by_text) == 1:
        return _sentence(next(iter(by_text)))
    return "; ".join(f"{', '.join(s)}: {text}" for text, s in by_text.items()) + "."


def _sentence(text: str) -> str:
    """Add a full stop, and capitalise the first word unless it is a symbol like "r:"."""
    capital = text.split()[0].isalpha()
    return f"{text[0].upper() if capital else text[0]}{text[1:]}."


def _defaults(name: str, solvers: list[str]) -> str | bool:
    """The default of an option: "0.02", or "1000; heun 17" if solvers differ."""
    catalog = read_catalog()
    by_value: dict[Any, list[str]] = {}
    for solver in solvers:
        by_value.setdefault(catalog[solver].options[name].default, []).append(solver)
    if list(by_value) == [None]:
        return False
    common = max(by_value, key=lambda value: len(by_value[value]))
    others = [f"{', '.join(s)} {_text(v)}" for v, s in by_value.items() if v != common]
    return "; ".join([_text(common), *others])


def _text(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "none" if value is None else str(value)
