"""The help of `ggf sample`: the usual options on one screen, or all, those of each solver apart.

Both are made from the options of the command and from the catalog of solvers.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Annotated, Any

import typer
from typer.core import TyperCommand

from ggf_cli.cli import console, tables
from ggf_cli.cli.list_solvers import option_columns
from ggf_cli.solvers.catalog import read_catalog

# The options on the first screen; --help-all has the others.
USUAL = (
    *("model", "n", "indices", "seed", "label", "batch_size", "device"),
    *("solver", "eps_rel", "steps"),
    *("out", "grid", "format", "quiet", "json", "resume", "force"),
    *("help_all", "help"),
)
# The widest help: longer lines are hard to read.
WIDEST = 100
# The longest metavar on the first screen.
LONGEST_METAVAR = 16


class SampleCommand(TyperCommand):
    """`ggf sample`, with a short help."""

    def format_help(self, ctx: Any, formatter: Any) -> None:
        for line in _short_help(self, ctx):
            console.result(line)

    def show_all(self, ctx: Any, formatter: Any) -> None:
        """Print the help of all options; those of each solver are in a table."""
        of_solvers = {option for about in read_catalog().values() for option in about.options}
        with _hidden(self, ctx, of_solvers):
            super().format_help(ctx, formatter)
        for name, about in read_catalog().items():
            console.result(f"--solver {name}: {about.summary}\n")
            tables.show(option_columns(about.options))
            console.result("")


def _show_all(ctx: typer.Context, wanted: bool) -> None:
    if wanted:
        command: Any = ctx.command
        command.show_all(ctx, ctx.make_formatter())
        raise typer.Exit


HelpAll = Annotated[
    bool,
    typer.Option(
        "--help-all",
        help="Show all options, and those of each solver, and exit.",
        callback=_show_all,
        is_eager=True,
        expose_value=False,
    ),
]


@contextmanager
def _hidden(command: Any, ctx: Any, names: set[str]) -> Iterator[None]:
    """Hide parameters of a command."""
    chosen = [p for p in command.get_params(ctx) if p.name in names and not p.hidden]
    for parameter in chosen:
        parameter.hidden = True
    try:
        yield
    finally:
        for parameter in chosen:
            parameter.hidden = False


def _short_help(command: Any, ctx: Any) -> Iterator[str]:
    """The lines of the short help."""
    width = min(console.width(), WIDEST)
    first, *rest = [text.strip() for text in command.help.split("\n\n")]
    yield f"Usage: {ctx.command_path} [OPTIONS]"
    yield ""
    yield from _wrapped(first, width)
    yield from (f"  {example}" for example in rest if example.startswith("ggf "))
    by_name = {parameter.name: parameter for parameter in command.get_params(ctx)}
    groups: dict[str, list[tuple[str, str]]] = {}
    for parameter in (by_name[name] for name in USUAL):
        panel = parameter.rich_help_panel or ("Model" if parameter.name == "model" else "Help")
        groups.setdefault(panel, []).append((_flags(parameter), _text(parameter)))
    left = max(len(flags) for rows in groups.values() for flags, _ in rows)
    for title, rows in groups.items():
        yield ""
        yield title
        for flags, text in rows:
            yield from _row(flags, text, left, width)
    yield ""
    end = "Other options: ggf sample --help-all. Options of a solver: ggf list-solvers NAME."
    yield from _wrapped(end, width)


def _row(flags: str, text: str, left: int, width: int) -> Sequence[str]:
    """The lines of an option: flags on the left, its help wrapped on the right."""
    start = f"  {flags:<{left}}  "
    if width - len(start) >= 20:
        return _wrapped(text, width, start, " " * len(start))
    return [start.rstrip(), *_wrapped(text, width, " " * 6, " " * 6)]


def _wrapped(text: str, width: int, start: str = "", indent: str = "") -> list[str]:
    return textwrap.wrap(
        text, width, initial_indent=start, subsequent_indent=indent, break_on_hyphens=False
    )


def _flags(parameter: Any) -> str:
    """The flags of an option and what follows them: "-n, --n N"."""
    short = [flag for flag in parameter.opts if not flag.startswith("--")]
    long = [flag for flag in parameter.opts if flag.startswith("--")]
    value = "" if parameter.is_flag else parameter.metavar or ""
    if len(value) > LONGEST_METAVAR:
        value = f"{value.split('|')[0]}|…"
    return f"{', '.join([*(short or ['   ']), *long])} {value}".replace("   , ", "    ").rstrip()


def _text(parameter: Any) -> str:
    """The help of an option, with its default."""
    default = parameter.show_default
    if default is True:
        default = "" if parameter.is_flag or parameter.default is None else str(parameter.default)
    if not default:
        return str(parameter.help)
    # An option of several solvers has several defaults.
    common, *others = str(default).split("; ")
    return f"{parameter.help} [{common}{', or by solver' if others else ''}]"
