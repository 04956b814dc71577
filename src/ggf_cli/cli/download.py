"""`ggf download`: download and verify models of the registry."""

from __future__ import annotations

from typing import Annotated

import typer

from ggf_cli.checkpoints.documents import ModelEntry
from ggf_cli.checkpoints.locate import obtain
from ggf_cli.checkpoints.manifest import find_model
from ggf_cli.cli import console
from ggf_cli.errors import UsageError


def download(
    names: Annotated[
        list[str], typer.Argument(metavar="NAME...", help="Names from `ggf list-models`.")
    ],
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress bar.")] = False,
) -> None:
    """Download models and verify their sha256.

    ggf download church ffhq-256
    """
    entries = [find_model(name) for name in names]
    for entry in entries:
        if not isinstance(entry, ModelEntry):
            raise UsageError(f"{entry} is a file, not a name from ggf list-models")
    for entry in entries:
        assert isinstance(entry, ModelEntry)
        console.result(f"{entry.name} {obtain(entry, quiet=quiet)}")
