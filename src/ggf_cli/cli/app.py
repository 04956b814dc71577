"""The command `ggf`, on top of the Python interface. Importing it does not import torch.

Results go to stdout; progress, notes and errors go to stderr. A `GGFError` is shown as one message
and one hint, with the error's exit code; GGF_DEBUG=1 shows the traceback instead.
"""

from __future__ import annotations

import os
from typing import Annotated, Any

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
from ggf_cli.cli.show import show
from ggf_cli.errors import CheckpointError, GGFError, OutputError, UsageError
from ggf_cli.runs.distributed import find_job


class Group(TyperGroup):
    """Print a `GGFError` of any command, and exit with its exit code."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except GGFError as error:
            if os.environ.get("GGF_DEBUG"):
                raise
            job = find_job()
            # An error of the command or the model is the same for all workers of a machine.
            if not (job and job.local_rank and isinstance(error, UsageError | CheckpointError)):
                who = f"rank {job.rank}: " if job else ""
                hint = _hint(error, ctx.invoked_subcommand)
                console.show_error(error, prefix=who, hint=hint)
            raise typer.Exit(error.exit_code) from error


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
app.command("sample")(sample)
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
