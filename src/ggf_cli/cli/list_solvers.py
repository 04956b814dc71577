"""`ggf list-solvers`: list the solvers, or the options of one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import msgspec
import typer

from ggf_cli.cli import console, tables
from ggf_cli.cli.tables import Column
from ggf_cli.solvers.catalog import OptionInfo, SolverInfo, flag, read_catalog
from ggf_cli.solvers.refusals import find_solver

# Upper bounds from here on are not shown.
NO_LIMIT = 1e6


def list_solvers(
    solver: Annotated[
        str | None, typer.Argument(help="Show the options of this solver.", show_default=False)
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """List the solvers and their properties, or the options of one.

    ggf list-solvers

    ggf list-solvers adaptive
    """
    catalog = read_catalog()
    if solver is not None:
        catalog = {solver: find_solver(solver)}
    if json:
        console.result_json([_document(name, about) for name, about in catalog.items()])
        return
    tables.show(_solvers(catalog))
    if solver is not None:
        console.result("")
        tables.show(option_columns(catalog[solver].options))


def _document(name: str, about: SolverInfo) -> dict[str, Any]:
    """A solver as JSON data, with null for absent values."""
    options = {key: msgspec.structs.asdict(option) for key, option in about.options.items()}
    return {"name": name, **msgspec.structs.asdict(about), "options": options}


def _solvers(catalog: Mapping[str, SolverInfo]) -> list[Column]:
    solvers = catalog.values()
    kinds = [about.kind.upper() for about in solvers]
    steps = ["adaptive" if about.adaptive else "fixed" for about in solvers]
    evaluations = [about.evaluations for about in solvers]
    nfes = [str(about.nfe or "–") for about in solvers]
    return [
        Column(title="name", cells=list(catalog)),
        Column(title="solves", cells=kinds, rank=2),
        Column(title="step size", cells=steps, rank=1),
        Column(title="evaluations a step", cells=evaluations, rank=4),
        Column(title="NFE", cells=nfes, justify="right", rank=3),
        Column(title="what", cells=[about.summary for about in solvers], wraps=34),
    ]


def option_columns(options: Mapping[str, OptionInfo]) -> list[Column]:
    """The table of the options of a solver."""
    values = [_values(option) for option in options.values()]
    defaults = [_default(option.default) for option in options.values()]
    return [
        Column(title="option", cells=[flag(name) for name in options]),
        Column(title="default", cells=defaults),
        Column(title="values", cells=values, rank=1),
        Column(title="what", cells=[option.help for option in options.values()], wraps=20),
    ]


def _default(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "–" if value is None else str(value)


def _values(option: OptionInfo) -> str:
    """The allowed values of an option, as short text."""
    if option.choices:
        return " | ".join(option.choices)
    kinds = {"bool": "yes | no", "text": "text", "numbers": "numbers"}
    if option.type in kinds:
        return kinds[option.type]
    signs = {"above": ">", "low": ">=", "high": "<="}
    limits = {name: getattr(option, name) for name in signs}
    # A limit that only keeps the arithmetic finite says nothing to a reader.
    if option.high is not None and option.high >= NO_LIMIT:
        limits["high"] = None
    bounds = [f"{sign} {limits[b]:g}" for b, sign in signs.items() if limits[b] is not None]
    return ", ".join([option.type, *bounds])
