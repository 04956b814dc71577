"""`ggf list-solvers`: list the solvers, or the options of one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import msgspec
import typer
from rich.table import Table

from ggf_cli.cli import console
from ggf_cli.registry import lookup
from ggf_cli.solvers.catalog import OptionInfo, SolverInfo, flag, read_catalog


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
        catalog = {solver: lookup(catalog, solver, "solver", f"solvers: {', '.join(catalog)}")}
    if json:
        console.result_json([_document(name, about) for name, about in catalog.items()])
        return
    console.show(_solvers(catalog))
    if solver is not None:
        console.result("")
        console.show(_options(catalog[solver].options))


def _document(name: str, about: SolverInfo) -> dict[str, Any]:
    """A solver as JSON data, with null for absent values."""
    options = {key: msgspec.structs.asdict(option) for key, option in about.options.items()}
    return {"name": name, **msgspec.structs.asdict(about), "options": options}


def _solvers(catalog: Mapping[str, SolverInfo]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("name", no_wrap=True)
    for column in ("solves", "step size"):
        table.add_column(column, no_wrap=True)
    table.add_column("evaluations a step")
    table.add_column("NFE", justify="right", no_wrap=True)
    table.add_column("what")
    for name, about in catalog.items():
        table.add_row(
            name,
            "SDE" if about.kind == "sde" else "ODE",
            "adaptive" if about.adaptive else "fixed",
            about.evaluations,
            str(about.nfe or "–"),
            about.summary,
        )
    return table


def _options(options: Mapping[str, OptionInfo]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("option", no_wrap=True)
    table.add_column("default", no_wrap=True)
    table.add_column("values", no_wrap=True)
    table.add_column("what")
    for name, option in options.items():
        table.add_row(flag(name), _default(option.default), _values(option), option.help)
    return table


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
    bounds = [f"{sign} {limits[b]:g}" for b, sign in signs.items() if limits[b] is not None]
    return ", ".join([option.type, *bounds])
