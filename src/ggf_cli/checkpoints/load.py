"""Load a model from a name or a path, ready for sampling."""

from __future__ import annotations

import math
import os
import reprlib
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import torch
from torch import nn

from ggf_cli.checkpoints import adm, diffusers, edm, lucidrains, native, score_sde
from ggf_cli.checkpoints.documents import HUB
from ggf_cli.checkpoints.hashes import file_sha256
from ggf_cli.checkpoints.locate import NETWORKS as PIPELINE_NETWORKS
from ggf_cli.checkpoints.locate import obtain
from ggf_cli.checkpoints.manifest import find_model
from ggf_cli.checkpoints.native import Checkpoint
from ggf_cli.checkpoints.refusals import refusal, refusal_of_name
from ggf_cli.checkpoints.stated_sde import StatedSDE, combine, for_training, split_sde, with_stated
from ggf_cli.checkpoints.tensors import read_pickle
from ggf_cli.checkpoints.user_code import UserCode, load_user_model
from ggf_cli.errors import AssumptionWarning, CheckpointError, UsageError
from ggf_cli.networks import NETWORKS
from ggf_cli.parametrizations import PARAMETRIZATIONS, Parametrization
from ggf_cli.runtime.devices import resolve_device, time_dtype
from ggf_cli.scalars import as_shape
from ggf_cli.score import ScoreModel
from ggf_cli.sde import sde_from_dict

# The network computes in one of these. Tensors of other types, when converted, could grow to more
# than twice their size.
DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
# The suffixes of files that do not state all of their settings, so that `config` gives them.
CONFIGURED = (".pth", ".pt")
# The most numbers in one sample: 3 x 4096 x 4096 and more.
MAX_NUMBERS = 2**26


def load_model(
    name: str | Path,
    *,
    device: str | torch.device = "auto",
    dtype: torch.dtype = torch.float32,
    quiet: bool = False,
    config: str | None = None,
    sde: str | None = None,
) -> ScoreModel:
    """Load a model; download it first if it is on the hub and not in the cache.

    Settings that a checkpoint does not state may be assumed. Each assumption causes an
    `AssumptionWarning`, and is listed in the model's provenance under "assumptions".

    Args:
        name: A name in `checkpoints.toml`, "hf:OWNER/REPO[@REVISION]", a native `.safetensors`
            file, a `.pth` file of score_sde_pytorch, a `.pt` file of denoising-diffusion-pytorch or
            of OpenAI's diffusion code, a `.pkl` file of EDM, a folder in diffusers layout, or code
            of your own, "FILE.py:OBJECT" or "package.module:OBJECT", which is imported and run.
        device: "auto", which is the first of cuda, mps and cpu that this machine has; "cpu",
            "cuda", "cuda:1", "mps" or a torch device.
        dtype: The type of weights and samples.
        quiet: No progress bar while downloading.
        config: For a `.pth` or `.pt` file: the settings that it does not state, like
            "cifar10-subvp" or "sde=vp,image_size=64"; see `read` of the format.
        sde: The SDE that a file does not state, like "vp,beta_max=10"; see `stated_sde`.

    Raises:
        UsageError: No such model, device or config, or the model has another SDE.
        CheckpointError: The checkpoint is missing, corrupt, altered or not supported.
    """
    model = _load(name, device, dtype, quiet=quiet, config=combine(config, sde=sde))
    for sentence in (model.provenance or {}).get("assumptions", ()):
        warnings.warn(sentence, AssumptionWarning, stacklevel=2)
    return model


def _load(
    name: str | Path,
    device: str | torch.device,
    dtype: torch.dtype,
    *,
    quiet: bool,
    config: str | None,
) -> ScoreModel:
    target = resolve_device(device)
    found = find_model(name)
    settings, stated = split_sde(config)
    if isinstance(found, UserCode):
        if settings is not None:
            raise UsageError(f"`config` is only for .pth and .pt files, {found.text} is code")
        return with_stated(load_user_model(found, device), stated)
    if isinstance(found, Path):
        checkpoint = read_checkpoint(found, config=config)
        title = f"{found.name} ({config})" if config else found.name
        model = build(checkpoint, title, found, device=target, dtype=dtype)
        return replace(model, provenance={**(model.provenance or {}), "config": config})
    if settings is not None:
        raise UsageError(f"`config` is only for .pth and .pt files, '{name}' is a registered model")
    path = obtain(found, quiet=quiet, inspect=diffusers.read_config)
    sde = sde_from_dict(found.sde) if found.sde else None
    if found.kind == HUB:
        root = path.parents[path.parent.name in PIPELINE_NETWORKS]
        checkpoint = diffusers.read(root, sde=sde, weights=path)
    else:
        checkpoint = read_checkpoint(path)
        if sde and checkpoint.parametrization == "exact":
            # An exact distribution has a score under any SDE; its file states one of them.
            sde = replace(sde, data_range=checkpoint.sde.data_range)
            checkpoint = replace(checkpoint, sde=sde)
    # The hash was compared by `obtain`.
    known = bool(found.sha256)
    model = build(checkpoint, found.name, path, device=target, dtype=dtype, known=known)
    model = with_stated(model, stated)
    return replace(model, recommended={"snr": found.snr}) if found.snr else model


def read_checkpoint(path: Path, *, config: str | None = None) -> Checkpoint:
    """Read a checkpoint of any supported format.

    Args:
        path: A folder in diffusers layout, a native file, a `.pth` file of score_sde_pytorch, or a
            `.pt` file of denoising-diffusion-pytorch or of OpenAI's diffusion code, or a `.pkl` or
            `.pt` file of EDM.
        config: For a `.pth` or `.pt` file: the settings that it does not state; for others the SDE.

    Raises:
        UsageError: `config` is malformed, given for another format, or has another SDE.
        CheckpointError: The checkpoint is corrupt or not supported.
    """
    settings, stated = split_sde(config)
    if settings is not None and path.suffix not in CONFIGURED:
        raise UsageError(f"`config` is only for .pth and .pt files, {path} states its own settings")
    try:
        checkpoint = _read(path, settings, stated)
        if stated is not None:
            stated.check(checkpoint.sde, str(path))
        return checkpoint
    except OSError as error:
        where = error.filename or path
        raise CheckpointError(f"cannot read {where}: {error.strerror or error}") from error


def _read(path: Path, config: str | None, stated: StatedSDE | None) -> Checkpoint:
    """Read a folder or a file; the format of a file is given by its suffix."""
    if path.is_dir():
        return diffusers.read(path)
    # Reading a pipe could wait for ever.
    if not path.is_file():
        raise CheckpointError(f"{path} is neither a file nor a folder")
    match path.suffix:
        case ".safetensors":
            return native.read(path)
        case ".pth":
            return _read_pth(path, config, stated)
        case ".pt":
            return _read_pt(path, config, stated)
        case ".py":
            raise CheckpointError(
                f"{path} is Python code, and no object in it is named",
                hint=f"name a ScoreModel, or a function that returns one: {path}:model",
            )
        case ".pkl" | ".pickle":
            return edm.read(path)
    raise refusal_of_name(path)


def _read_pth(path: Path, config: str | None, stated: StatedSDE | None) -> Checkpoint:
    """Read a `.pth` file; its content decides the format."""
    content = read_pickle(path)
    if lucidrains.recognises(content):
        return lucidrains.read(path, content, config=config)
    if not {"model", "ema"} <= content.keys():
        raise refusal(path, content)
    return score_sde.read(path, config=for_training(config, stated))


def _read_pt(path: Path, config: str | None, stated: StatedSDE | None) -> Checkpoint:
    """Read a `.pt` file; its content decides the format."""
    content = read_pickle(path)
    if lucidrains.recognises(content):
        return lucidrains.read(path, content, config=config)
    if adm.recognises(content):
        return adm.read(path, content, config=config)
    flat = all(isinstance(value, torch.Tensor) for value in content.values())
    if flat and (checkpoint := edm.read_state_dict(content, path, stated)):
        return checkpoint
    raise refusal(path, content)


def build(
    checkpoint: Checkpoint,
    name: str,
    path: Path,
    *,
    device: torch.device,
    dtype: torch.dtype = torch.float32,
    known: bool = False,
) -> ScoreModel:
    """Build the network of a checkpoint and wrap it as a score model.

    Args:
        checkpoint: The checkpoint in memory.
        name: The name of the model.
        path: The path of its file, for messages.
        device: The device for the weights.
        dtype: The type of weights and samples.
        known: The hash of the file is in the registry, so that its network need not be tried out.

    Raises:
        CheckpointError: The configuration is not valid, or the tensors do not fit the network.
    """
    parametrization = _parametrization(checkpoint, path)
    network = _empty_network(checkpoint, path)
    if not known:
        _try_out(network, checkpoint, path)
    _check_tensors(network, checkpoint, path)
    network.load_state_dict(checkpoint.tensors, assign=True)
    # Convolutions run faster with the channels last: by a fifth on CPU, more with tensor cores.
    network.to(device, dtype).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    network.eval().requires_grad_(False)
    # Unlike `Path.is_dir`, this never raises.
    is_folder = os.path.isdir(path)  # noqa: PTH112
    return ScoreModel(
        score=parametrization(network, checkpoint.sde, checkpoint.parametrization_config),
        sde=checkpoint.sde,
        shape=checkpoint.shape,
        name=name,
        device=device,
        dtype=dtype,
        time_dtype=time_dtype(device),
        conditional=checkpoint.classes > 0,
        classes=checkpoint.classes,
        distribution=network if checkpoint.parametrization == "exact" else None,
        recommended={"snr": checkpoint.snr} if checkpoint.snr else {},
        provenance={
            "origin": checkpoint.provenance,
            "file": path.name,
            "sha256": None if is_folder else file_sha256(path),
            "parameters": sum(p.numel() for p in network.parameters()),
            "assumptions": list(checkpoint.assumptions),
            "network": checkpoint.network,
            "network_config": checkpoint.network_config,
            "parametrization": checkpoint.parametrization,
            "parametrization_config": checkpoint.parametrization_config,
            "classes": checkpoint.classes,
        },
    )


def _parametrization(checkpoint: Checkpoint, path: Path) -> Parametrization:
    """The parametrization of a checkpoint; refused if it does not fit the SDE."""
    for value, table in (
        (checkpoint.network, NETWORKS),
        (checkpoint.parametrization, PARAMETRIZATIONS),
    ):
        if not isinstance(value, str) or value not in table:
            raise CheckpointError(
                f"{path} needs {value!r}, which this version of ggf does not have",
                hint="upgrade ggf-cli, or check how the file was written",
            )
    parametrization = PARAMETRIZATIONS[checkpoint.parametrization]
    if checkpoint.sde.name not in parametrization.sdes:
        raise CheckpointError(
            f"{path}: parametrization '{checkpoint.parametrization}' does not support the"
            f" SDE '{checkpoint.sde.name}', only {', '.join(parametrization.sdes)}"
        )
    return parametrization


def _empty_network(checkpoint: Checkpoint, path: Path) -> nn.Module:
    """The network without weights, on the meta device."""
    if not _fits(checkpoint.shape):
        raise CheckpointError(
            f"{path}: {reprlib.repr(checkpoint.shape)} is not the shape of a sample"
        )
    with _working(checkpoint, path), torch.device("meta"):
        network: nn.Module = NETWORKS[checkpoint.network].load()(**checkpoint.network_config)
    return network


def _fits(shape: tuple[int, ...]) -> bool:
    """Whether a shape is valid for a sample, and not too large."""
    try:
        return math.prod(as_shape(shape)) <= MAX_NUMBERS
    except UsageError:
        return False


def _try_out(network: nn.Module, checkpoint: Checkpoint, path: Path) -> None:
    """Evaluate the score on the meta device, to check the configuration.

    The first time in a process takes a second, because torch imports its compiler.
    """
    with _working(checkpoint, path), torch.device("meta"), torch.no_grad():
        x, t = torch.empty(2, *checkpoint.shape), torch.empty(2, dtype=torch.float64)
        labels = (torch.empty(2, dtype=torch.int64),) if checkpoint.classes else ()
        make_score = PARAMETRIZATIONS[checkpoint.parametrization]
        config = checkpoint.parametrization_config
        score = make_score(network, checkpoint.sde, config)(x, t, *labels)
    if score.shape != x.shape:
        raise CheckpointError(
            f"{path} configures a '{checkpoint.network}' whose output for samples of shape"
            f" {checkpoint.shape} has shape {tuple(score.shape[1:])}"
        )


@contextmanager
def _working(checkpoint: Checkpoint, path: Path) -> Iterator[None]:
    """Turn any error inside the context into a `CheckpointError` about the configuration."""
    try:
        yield
    except CheckpointError:
        raise
    except Exception as error:
        raise CheckpointError(
            f"{path} configures a '{checkpoint.network}' that does not work for samples of shape"
            f" {checkpoint.shape}: {error}"
        ) from error


def _check_tensors(network: nn.Module, checkpoint: Checkpoint, path: Path) -> None:
    """Refuse tensors whose names, shapes or types are not those of the network."""
    wanted = {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}
    found = {name: tuple(tensor.shape) for name, tensor in checkpoint.tensors.items()}
    types = ", ".join(str(dtype).removeprefix("torch.") for dtype in DTYPES)
    for name, tensor in checkpoint.tensors.items():
        if tensor.dtype not in DTYPES:
            raise CheckpointError(
                f"{path} has {name} of type {tensor.dtype}, expected floating-point numbers",
                hint=f"convert it to one of {types}",
            )
    problems = [
        *(f"lacks {name} {wanted[name]}" for name in wanted.keys() - found.keys()),
        *(f"has unknown {name} {found[name]}" for name in found.keys() - wanted.keys()),
        *(
            f"has {name} of shape {found[name]}, expected {wanted[name]}"
            for name in wanted.keys() & found.keys()
            if wanted[name] != found[name]
        ),
    ]
    if problems:
        shown = "; ".join(sorted(problems)[:3])
        more = f"; and {len(problems) - 3} more" if len(problems) > 3 else ""
        raise CheckpointError(f"{path} does not fit a '{checkpoint.network}': it {shown}{more}")
