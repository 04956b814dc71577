"""`ggf convert`: convert a checkpoint to a native file."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from ggf_cli.checkpoints.stated_sde import combine
from ggf_cli.cli import console, options
from ggf_cli.errors import CheckpointError, UsageError


def convert(
    source: Annotated[
        Path,
        typer.Argument(
            help="A folder in diffusers layout, a .pth, .pt or .pkl file, or a native file."
        ),
    ],
    out: Annotated[Path, typer.Argument(help="The native file to write, OUT.safetensors.")],
    config: options.Config = None,
    sde: options.StateSDE = None,
    size: options.ImageSize = None,
    license: Annotated[
        str | None, typer.Option("--license", help="Licence of the weights.")
    ] = None,
    origin: Annotated[
        str | None, typer.Option("--origin", help="Origin of the weights, to be stored in OUT.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", "-f", help="Replace OUT if it exists.")] = False,
) -> None:
    """Convert a checkpoint to a native file, with all settings in it.

    ggf convert ./my-ddpm my-ddpm.safetensors --license MIT

    ggf convert checkpoint_26.pth subvp.safetensors --config cifar10-subvp

    Assumptions about a .pth or .pt file are stored in OUT, and printed whenever OUT is used.
    """
    if out.suffix != ".safetensors":
        raise UsageError(f"{out} must end in .safetensors")
    if _exists(out) and not force:
        raise UsageError(f"{out} exists", hint="use --force to replace it")
    if not _exists(source):
        raise CheckpointError(
            f"no checkpoint at {source}", hint="give a file or a folder, not a model's name"
        )

    import torch

    from ggf_cli.checkpoints.load import build, read_checkpoint
    from ggf_cli.checkpoints.native import to_bytes
    from ggf_cli.runs.layout import write_atomically

    checkpoint = read_checkpoint(source, config=combine(config, sde=sde, size=size))
    provenance = {"license": "unknown", **checkpoint.provenance}
    if license:
        provenance["license"] = license
    if origin:
        provenance["source"] = origin
    checkpoint = replace(checkpoint, provenance=provenance)
    # Check that all tensors fit the network.
    build(checkpoint, source.name, source, device=torch.device("cpu"))
    write_atomically(out, to_bytes(checkpoint))

    for sentence in checkpoint.assumptions:
        console.warn(sentence)
    console.result(
        f"{checkpoint.network}, {sum(t.numel() for t in checkpoint.tensors.values()):,} values,"
        f" shape {'×'.join(map(str, checkpoint.shape))}"
    )
    console.result(f"{checkpoint.parametrization}, {checkpoint.sde}")
    console.result(str(out))


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except OSError as error:
        raise UsageError(f"cannot access {path}: {error.strerror}") from error
