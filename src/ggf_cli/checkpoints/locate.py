"""Find or download the weights file of a registered model.

This module does not import torch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path, PurePosixPath

from ggf_cli.checkpoints.documents import DRIVE, HUB, WEB, ModelEntry
from ggf_cli.checkpoints.fetch import fetch_file, fetch_if_there
from ggf_cli.checkpoints.hashes import data_folder, file_sha256
from ggf_cli.checkpoints.hub_cache import cached_file
from ggf_cli.checkpoints.hub_errors import MissingFile
from ggf_cli.checkpoints.manifest import PACKAGE
from ggf_cli.checkpoints.shards import parts_of
from ggf_cli.errors import CheckpointError

# Names of the weights file in a diffusers folder, in order of preference. An index names the files
# of weights that are split; "fp16" is a variant that is rounded to half precision.
WEIGHTS = (
    "diffusion_pytorch_model.safetensors",
    "diffusion_pytorch_model.bin",
    "diffusion_pytorch_model.safetensors.index.json",
    "diffusion_pytorch_model.bin.index.json",
    "diffusion_pytorch_model.fp16.safetensors",
    "diffusion_pytorch_model.fp16.bin",
    "diffusion_pytorch_model.safetensors.index.fp16.json",
    "diffusion_pytorch_model.bin.index.fp16.json",
)
# Names of the folder of the network in a pipeline, in order of preference. The training scripts of
# diffusers save the moving average of the weights as "unet_ema".
NETWORKS = ("unet_ema", "unet")
# Lists the parts of a diffusers pipeline.
INDEX = "model_index.json"
# The configuration of the scheduler.
SCHEDULER = "scheduler_config.json"
# Names of the part of a pipeline that turns latents into images.
LATENT = ("vae", "vqvae", "movq")


def local_path(entry: ModelEntry) -> Path | None:
    """The path of a model's weights file on this machine, or None; makes no request."""
    if entry.kind == HUB:
        if not entry.file:
            return None
        return cached_file(entry.place, entry.file, revision=entry.revision or None)
    path = _converted(entry) if entry.kind in (DRIVE, WEB) else PACKAGE / "assets" / entry.place
    return path if path.is_file() else None


def obtain(
    entry: ModelEntry, *, quiet: bool = False, inspect: Callable[[Path], object] | None = None
) -> Path:
    """The path of a model's weights file; a file on the hub is downloaded if need be.

    Args:
        entry: The model.
        quiet: No progress bar.
        inspect: Called with the folder after its configurations are downloaded and before the
            weights are; may raise to prevent the download.

    Raises:
        CheckpointError: The file is missing, cannot be downloaded, or has a wrong hash.
    """
    if entry.kind == HUB:
        return _from_hub(entry, quiet, inspect)
    path = local_path(entry)
    if path is None:
        raise _missing(entry)
    if entry.kind not in (DRIVE, WEB) and (found := file_sha256(path)) != entry.sha256:
        raise CheckpointError(
            f"sha256 of {path} is {found}, but {entry.sha256} in checkpoints.toml",
            hint="the file is damaged or was replaced: reinstall ggf-cli",
        )
    return path


def _from_hub(entry: ModelEntry, quiet: bool, inspect: Callable[[Path], object] | None) -> Path:
    """Download weights and configurations, from the root or from the folders of a pipeline."""

    def fetch(file: str, *, weights: bool = False) -> Path:
        return fetch_file(
            entry.place,
            file,
            revision=entry.revision or None,
            sha256=(entry.sha256 or None) if weights else None,
            verify=weights,
            quiet=quiet,
        )

    def fetch_optional(file: str) -> Path | None:
        return fetch_if_there(entry.place, file, revision=entry.revision or None, quiet=quiet)

    # A registered model is a pixel model, and the registry states its file.
    if entry.file:
        parent = PurePosixPath(entry.file).parent.name
        folder = f"{parent}/" if parent in NETWORKS else ""
    else:
        there = [name for name in NETWORKS if fetch_optional(f"{name}/config.json")]
        folder = f"{there[0]}/" if there else ""
        if not fetch_optional(INDEX) and there:
            # Then `inspect` finds the part in the folder.
            for part in LATENT:
                fetch_optional(f"{part}/config.json")
    root = fetch(f"{folder}config.json").parents[bool(folder)]
    scheduler = f"{'scheduler/' if folder else ''}{SCHEDULER}"
    try:
        fetch(scheduler)
    except MissingFile as error:
        raise no_scheduler(entry.place, scheduler) from error
    if inspect is not None:
        inspect(root)
    if entry.file:
        return fetch(entry.file, weights=True)
    for name in WEIGHTS:
        with suppress(MissingFile):
            path = fetch(folder + name, weights=True)
            for part in parts_of(path):
                fetch(folder + part, weights=True)
            return path
    raise no_weights(f"{entry.place}/{folder}".rstrip("/"), ())


def no_weights(place: str, found: Sequence[str]) -> CheckpointError:
    """The error for a folder without a file of `WEIGHTS`.

    Args:
        place: The folder.
        found: Names of the files in the folder.
    """
    message = f"{place} has no weights, {' or '.join(WEIGHTS[:2])}"
    for name in found:
        if name.endswith((".safetensors", ".bin")):
            return CheckpointError(
                f"{message}; it has {name}",
                hint=f"to use these weights, copy the file to {WEIGHTS[name.endswith('.bin')]}",
            )
    return CheckpointError(message)


def no_scheduler(place: str, file: str, hint: str = "") -> CheckpointError:
    """The error for a model without the configuration of a scheduler.

    Args:
        place: The folder or repository.
        file: The path in it where the configuration should be.
        hint: What to do; by default, how to save the file.
    """
    return CheckpointError(
        f"{place} has no {file}, so the noise levels of the model are not known",
        hint=hint
        or f"add {file} of the training: noise_scheduler.save_pretrained(FOLDER) in diffusers"
        " writes it",
    )


def _converted(entry: ModelEntry) -> Path:
    """The path of a model that the user has converted."""
    return data_folder() / "models" / f"{entry.name}.safetensors"


def _missing(entry: ModelEntry) -> CheckpointError:
    """The error for a weights file that is not on this machine and cannot be downloaded."""
    if entry.kind not in (DRIVE, WEB):
        return CheckpointError(
            f"the weights of '{entry.name}' are not in the package", hint="reinstall ggf-cli"
        )
    convert = f"ggf convert {entry.file} {_converted(entry)}"
    if entry.kind == WEB:
        return CheckpointError(
            f"the weights of '{entry.name}' are not on this machine, and ggf does not download"
            f" them: they are at https://{entry.place}/{entry.file}, licence {entry.license}",
            hint=f"download the file, then run once: {convert}",
        )
    return CheckpointError(
        f"the weights of '{entry.name}' are not on this machine, and ggf cannot download them: they"
        f" are {entry.file} in the authors' folder"
        f" https://drive.google.com/drive/folders/{entry.place}",
        hint=f"download it with a browser, then run once: {convert} --config {entry.name}",
    )
