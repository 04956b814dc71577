"""The command `ggf`, on top of the Python interface. Importing it does not import torch.

Results go to stdout; progress, notes and errors go to stderr. A `GGFError` is shown as one message
and one hint, with the error's exit code; GGF_DEBUG=1 shows the traceback instead.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any, NoReturn

import typer
from typer.core import TyperGroup

from ggf_cli import __version__
from ggf_cli.cli import console
from ggf_cli.cli.certify import certify
from ggf_cli.cli.compare import compare
from ggf_cli.cli.convert import convert
from ggf_cli.cli.doctor import doctor
from ggf_cli.cli.download import download
from ggf_cli.cli.inspect import inspect
from ggf_cli.cli.list_models import list_models
from ggf_cli.cli.list_solvers import list_solvers
from ggf_cli.cli.sample import sample
from ggf_cli.cli.sample_help import SampleCommand
from ggf_cli.cli.show import show
from ggf_cli.errors import CheckpointError, GGFError, OutputError, UsageError
from ggf_cli.registry import did_you_mean, lookup
from ggf_cli.runs.distributed import find_job

# The class of Typer's errors in a command line. Typer has no public name for it.
_Misuse: type[Exception] = typer.BadParameter.__bases__[0]


class Group(TyperGroup):
    """Print a `GGFError` of any command, and exit with its exit code.

    Errors that Typer finds in the command line have the same form.
    """

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        with _shown(ctx):
            return super().parse_args(ctx, args)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        lookup(self.commands, args[0], "command", f"commands: {', '.join(self.commands)}")
        return super().resolve_command(ctx, args)

    def invoke(self, ctx: Any) -> Any:
        with _shown(ctx):
            return super().invoke(ctx)


@contextmanager
def _shown(ctx: Any) -> Iterator[None]:
    """Print an expected error of the body, and exit."""
    try:
        yield
    except _Misuse as misuse:
        # Typer prints the help.
        if type(misuse).__name__ == "NoArgsIsHelpError":
            raise
        _exit(_explained(misuse), ctx, misuse)
    # Commands that keep a part of their work end otherwise.
    except KeyboardInterrupt as interrupt:
        # The terminal has written ^C on a line of its own.
        if sys.stderr.isatty():
            console.note("")
        draws = ctx.invoked_subcommand in ("sample", "compare")
        kept = "; samples that are in the output folder are kept" if draws else ""
        console.note(f"interrupted{kept}")
        raise typer.Exit(130) from interrupt
    except GGFError as error:
        if os.environ.get("GGF_DEBUG"):
            raise
        _exit(error, ctx, error)


def _exit(error: GGFError, ctx: Any, cause: Exception) -> NoReturn:
    job = find_job()
    # An error of the command or the model is the same for all workers of a machine.
    if not (job and job.local_rank and isinstance(error, UsageError | CheckpointError)):
        who = f"rank {job.rank}: " if job else ""
        console.show_error(error, prefix=who, hint=_hint(error, ctx.invoked_subcommand))
    raise typer.Exit(error.exit_code) from cause


def _explained(misuse: Any) -> UsageError:
    """The error of ours for one that Typer has found."""
    command = getattr(misuse, "ctx", None) and misuse.ctx.command_path
    if hasattr(misuse, "possibilities"):
        params = misuse.ctx.command.params if misuse.ctx else ()
        flags = [name for p in params for name in (*p.opts, *p.secondary_opts) if name[0] == "-"]
        hint = did_you_mean(misuse.option_name, flags, f"see {command or 'ggf'} --help")
        return UsageError(f"unknown option '{misuse.option_name}'", hint=hint)
    text = misuse.format_message().rstrip(".")
    return UsageError(text[:1].lower() + text[1:], hint=f"see {command or 'ggf'} --help")


def _hint(error: GGFError, command: str | None) -> str | None:
    """The hint for an error that has none of its own."""
    if isinstance(error, UsageError):
        return f"see ggf {command} --help" if command else "see ggf --help"
    return "give another place to write to" if isinstance(error, OutputError) else None


app = typer.Typer(
    name="ggf",
    cls=Group,
    help="Draw images from pretrained score-based models, fast.",
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
    pretty_exceptions_enable=False,
)
app.command("sample", cls=SampleCommand)(sample)
app.command("compare")(compare)
app.command("show")(show)
app.command("list-models")(list_models)
app.command("list-solvers")(list_solvers)
app.command("inspect")(inspect)
app.command("download")(download)
app.command("convert")(convert)
app.command("doctor")(doctor)
app.command("certify")(certify)


def _show_version(wanted: bool) -> None:
    if wanted:
        console.result(f"ggf {__version__}")
        raise typer.Exit


@app.callback()
def main(
    version: Annotated[
        bool,
        typer.Option(
            "--version", help="Print the version and exit.", callback=_show_version, is_eager=True
        ),
    ] = False,
) -> None:
    """Draw images from pretrained score-based models, fast."""
