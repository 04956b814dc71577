"""From a registered model to a file on this machine: where it is, and how it gets here. Imports no torch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path, PurePosixPath

from ggf_cli.checkpoints.fetch import MissingFile, cached_file, fetch_file, fetch_if_there, is_there
from ggf_cli.checkpoints.hashes import data_folder, file_sha256
from ggf_cli.checkpoints.manifest import DRIVE, HUB, PACKAGE, ModelEntry
from ggf_cli.errors import CheckpointError

# Names of the weights in a diffusers folder, the better one first.
WEIGHTS = ("diffusion_pytorch_model.safetensors", "diffusion_pytorch_model.bin")
# Other forms of them, which are recognised and not read.
_OTHER_WEIGHTS = (
    "diffusion_pytorch_model.safetensors.index.json",
    "diffusion_pytorch_model.bin.index.json",
    "diffusion_pytorch_model.fp16.safetensors",
    "diffusion_pytorch_model.fp16.bin",
)
INDEX = "model_index.json"  # what a diffusers pipeline consists of
LATENT = ("vae", "vqvae", "movq")  # the part of a pipeline that turns latents into images


def local_path(entry: ModelEntry) -> Path | None:
    """Where the model's weights are, if they are here; asks no network."""
    if entry.kind == HUB:
        if not entry.file:
            return None
        return cached_file(entry.place, entry.file, revision=entry.revision or None)
    path = _converted(entry) if entry.kind == DRIVE else PACKAGE / "assets" / entry.place
    return path if path.is_file() else None


def obtain(
    entry: ModelEntry, *, quiet: bool = False, inspect: Callable[[Path], object] | None = None
) -> Path:
    """The model's weights file, downloaded if it is on the hub and not here.

    Args:
        entry: Which model.
        quiet: No progress bar.
        inspect: Called with the folder once its configurations are there and before the weights are downloaded;
            may raise to spare the download.

    Raises:
        CheckpointError: Not to be had, or not the file it should be; says what to do.
    """
    if entry.kind == HUB:
        return _from_hub(entry, quiet, inspect)
    path = local_path(entry)
    if path is None:
        raise _missing(entry)
    if entry.kind != DRIVE and (found := file_sha256(path)) != entry.sha256:
        raise CheckpointError(
            f"sha256 of {path} is {found}, checkpoints.toml says {entry.sha256}",
            hint="the file is damaged or was replaced: reinstall ggf-cli",
        )
    return path


def _from_hub(entry: ModelEntry, quiet: bool, inspect: Callable[[Path], object] | None) -> Path:
    """The weights, with the configurations beside them: at the root, or in the folders of a pipeline."""

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

    if entry.file:  # the registry knows where it is, and that it draws pixels
        unet = PurePosixPath(entry.file).parent.name == "unet"
    else:
        unet = fetch_optional("unet/config.json") is not None
        if not fetch_optional(INDEX) and unet:
            for part in LATENT:  # so that `inspect` finds it in the folder
                fetch_optional(f"{part}/config.json")
    folder, scheduler = ("unet/", "scheduler/") if unet else ("", "")
    root = fetch(f"{folder}config.json").parents[unet]
    fetch(f"{scheduler}scheduler_config.json")
    if inspect is not None:
        inspect(root)
    if entry.file:
        return fetch(entry.file, weights=True)
    for name in WEIGHTS:
        with suppress(MissingFile):
            return fetch(folder + name, weights=True)
    revision = entry.revision or None
    found = [
        name for name in _OTHER_WEIGHTS if is_there(entry.place, folder + name, revision=revision)
    ]
    raise no_weights(f"{entry.place}/{folder}".rstrip("/"), found)


def no_weights(place: str, found: Sequence[str]) -> CheckpointError:
    """The error for a network without a file of `WEIGHTS`.

    Args:
        place: Where they were looked for.
        found: Names of the files that are there.
    """
    wanted = f"{place} has no weights, {' or '.join(WEIGHTS)}"
    for name in found:
        if name.endswith(".index.json"):
            return CheckpointError(
                f"{wanted}: {name} spreads them over several files, which ggf does not read",
                hint="save them in one file: save_pretrained(FOLDER, max_shard_size='100GB')",
            )
    for name in found:
        if name.endswith((".safetensors", ".bin")):
            return CheckpointError(
                f"{wanted}: there is {name}",
                hint=f"if these weights are meant, copy the file to {WEIGHTS[name.endswith('.bin')]}",
            )
    return CheckpointError(wanted)


def _converted(entry: ModelEntry) -> Path:
    """Where a model that users convert themselves is looked for."""
    return data_folder() / "models" / f"{entry.name}.safetensors"


def _missing(entry: ModelEntry) -> CheckpointError:
    if entry.kind != DRIVE:
        return CheckpointError(
            f"the weights of '{entry.name}' are not in the package", hint="reinstall ggf-cli"
        )
    return CheckpointError(
        f"the weights of '{entry.name}' are not here, and ggf cannot download them: they are {entry.file}"
        f" in the authors' folder https://drive.google.com/drive/folders/{entry.place}",
        hint="fetch it with a browser, then once:"
        f" ggf convert {entry.file} {_converted(entry)} --config {entry.name}",
    )
