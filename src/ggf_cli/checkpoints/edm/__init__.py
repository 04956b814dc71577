"""Read the checkpoints of EDM (NVlabs/edm): its `.pkl` files, and state dicts of its networks.

A `.pkl` file has the network in `ema`: a preconditioning (`edm.preconditioning`) around a SongUNet
(`edm.song`) or a DhariwalUNet (`edm.dhariwal`). `edm.unpickle` reads it as data, without the source
code that it contains.

Reference: Karras et al. 2022, arXiv:2206.00364.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from ggf_cli.checkpoints.archive import check_storage
from ggf_cli.checkpoints.edm import dhariwal, song
from ggf_cli.checkpoints.edm.blocks import kind_of
from ggf_cli.checkpoints.edm.preconditioning import (
    PRECONDITIONINGS,
    TABLE,
    iddpm_levels,
    noise_levels,
    number,
    settings,
)
from ggf_cli.checkpoints.edm.unpickle import Record, unpickle
from ggf_cli.checkpoints.hashes import file_sha256
from ggf_cli.checkpoints.native import Checkpoint
from ggf_cli.checkpoints.stated_sde import StatedSDE
from ggf_cli.diffusions import EDM
from ggf_cli.errors import CheckpointError, UsageError
from ggf_cli.sde import SDE

# The class of a network: the name of ours, and the module that reads it.
NETWORKS = {"SongUNet": ("ncsnpp", song), "DhariwalUNet": ("adm", dhariwal)}
LICENSE = "CC BY-NC-SA 4.0"
# The names of the files that NVIDIA publishes.
_PUBLISHED = re.compile(
    r"(edm|baseline)-(cifar10-32x32|ffhq-64x64|afhqv2-64x64|imagenet-64x64)-(un)?cond-(vp|ve|adm)"
)
# The noise levels of EDM's sampler, which are limited to those of the network.
_SIGMAS = (0.002, 80.0)
# Modules inside each other, and modules and tensors of a network. An ADM has 6 and 3,000.
_MAX_DEPTH = 16
_MAX_PARTS = 100_000
_DAMAGE = (LookupError, ValueError, TypeError, AttributeError, ArithmeticError, RuntimeError)


def read(path: Path) -> Checkpoint:
    """Read a `.pkl` file of EDM's code.

    Raises:
        CheckpointError: The file is corrupt, has other objects, or a network that is not supported.
    """
    content = unpickle(path)
    network = content.get("ema") if isinstance(content, dict) else content
    if not isinstance(network, Record):
        raise CheckpointError(
            f"{path} is not a checkpoint of EDM's code: it has no network in 'ema'",
            hint="such a file is network-snapshot-….pkl or one of those that NVIDIA publishes",
        )
    try:
        return _from_record(network, path)
    except _DAMAGE as error:
        raise CheckpointError(f"the network in {path} is damaged: {error!r:.300}") from error


def read_state_dict(
    tensors: Mapping[str, Tensor], path: Path, stated: StatedSDE | None = None
) -> Checkpoint | None:
    """The checkpoint of a table of tensors with the names of EDM's networks; None for others.

    Such a table does not state the preconditioning, unless it has the noise levels of iDDPM. It is
    assumed: that of iDDPM for a network with outputs for the variance, otherwise that of EDM.

    Args:
        tensors: The tensors, whose names may start with "model.".
        path: The file, for messages and provenance.
        stated: The SDE if the user states it; else EDM's with its usual noise levels is assumed.

    Raises:
        CheckpointError: The network is not supported.
        UsageError: The stated SDE is not valid.
    """
    tensors = {name.removeprefix("model."): tensor for name, tensor in tensors.items()}
    kind = kind_of(tensors)
    if kind is None:
        return None
    sde = stated.make(data_range=(-1.0, 1.0)) if stated else None
    try:
        if kind == "DhariwalUNet" and (TABLE in tensors or dhariwal.has_variance(tensors)):
            return _improved(tensors, sde, path)
        parametrization = {"preconditioning": "edm", "sigma_data": 0.5}
        levels = "" if sde else " and noise levels from 0.002 to 80"
        assumed = (
            f"{path.name} does not state its preconditioning: that of EDM with sigma_data 0.5 is"
            f" assumed, for data in [-1, 1]{levels}."
        )
        return _checkpoint(tensors, parametrization, sde or EDM(), path, (assumed,))
    except _DAMAGE as error:
        raise CheckpointError(f"the network in {path} is damaged: {error!r:.300}") from error


def _improved(tensors: dict[str, Tensor], stated: SDE | None, path: Path) -> Checkpoint:
    """The checkpoint of the tensors of a DhariwalUNet of improved DDPM, with the stated SDE."""
    table = tensors.pop(TABLE, None)
    levels = iddpm_levels() if table is None else noise_levels(table)
    assumed = (
        f"{path.name} does not state its preconditioning: that of iDDPM with"
        f" {len(levels)} noise levels is assumed, for data in [-1, 1]."
    )
    parametrization = {"preconditioning": "iddpm", "noise_levels": levels}
    sde = stated or _sde(levels[0], levels[-1], path)
    return _checkpoint(tensors, parametrization, sde, path, () if table is not None else (assumed,))


def _from_record(network: Record, path: Path) -> Checkpoint:
    """The checkpoint of an object of EDM's code."""
    if network.name not in PRECONDITIONINGS:
        raise _unsupported(network, path)
    model = _table(network.state, "_modules").get("model")
    if not isinstance(model, Record) or model.name not in NETWORKS:
        raise _unsupported(model, path)
    table = _table(network.state, "_buffers").get(TABLE)
    parametrization = settings(network.name, network.state, table)
    sde = _sde(number(network.state["sigma_min"]), number(network.state["sigma_max"]), path)
    tensors = dict(_named_tensors(model))
    if kind_of(tensors) != model.name:
        raise CheckpointError(f"{path} lacks the tensors of a {model.name}")
    return _checkpoint(tensors, parametrization, sde, path, ())


def _sde(lowest: float, highest: float, path: Path) -> EDM:
    """The SDE between the noise levels of EDM's sampler, within those of the network."""
    try:
        return EDM(sigma_min=max(_SIGMAS[0], lowest), sigma_max=min(_SIGMAS[1], highest))
    except UsageError as error:
        raise CheckpointError(f"the noise levels of {path} are not valid: {error}") from error


def _checkpoint(
    tensors: Mapping[str, Tensor],
    parametrization: dict[str, Any],
    sde: SDE,
    path: Path,
    assumptions: tuple[str, ...],
) -> Checkpoint:
    """The checkpoint of the tensors of a network."""
    check_storage(tensors.values(), path)
    network, code = NETWORKS[kind_of(tensors) or "SongUNet"]
    if code is dhariwal and parametrization["preconditioning"] != "iddpm":
        _refuse_variance(tensors, path)
    try:
        config, size = code.recognise(tensors)
        weights = code.renamed(tensors, config, size)
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error.message}", hint=error.hint) from error
    provenance = {
        "source": path.name,
        "format": "edm",
        "file": path.name,
        "sha256": file_sha256(path),
    }
    if _PUBLISHED.fullmatch(path.stem):
        provenance["license"] = LICENSE
    return Checkpoint(
        network=network,
        network_config=config,
        parametrization="edm",
        parametrization_config=parametrization,
        classes=config["classes"],
        sde=sde,
        shape=(config["image_channels"], size, size),
        tensors=weights,
        provenance=provenance,
        assumptions=assumptions,
    )


def _refuse_variance(tensors: Mapping[str, Tensor], path: Path) -> None:
    """Refuse a DhariwalUNet with outputs that its preconditioning does not have."""
    if dhariwal.has_variance(tensors):
        raise CheckpointError(
            f"{path} has a DhariwalUNet with outputs for the variance, which only iDDPMPrecond has"
        )


def _unsupported(found: object, path: Path) -> CheckpointError:
    """The error for an object of another class."""
    name = found.name if isinstance(found, Record) else "no network"
    hint = (
        "ggf reads SongUNet (DDPM++ and NCSN++) and DhariwalUNet (ADM) in"
        f" {', '.join(PRECONDITIONINGS)}"
    )
    if name != "Precond" or not isinstance(found, Record):
        return CheckpointError(f"{path} has {name[:40]!r}, which is not supported", hint=hint)
    channels, size = (found.state.get(f"img_{key}") for key in ("channels", "resolution"))
    what = f" for images of {size!r:.10} pixels" if channels == 3 else ""
    what = " for latents of an autoencoder" if channels == 4 else what
    return CheckpointError(
        f"{path} has a network of EDM2{what}, which is not supported",
        hint=f"{hint}; from Python, load a file that you trust with the code of EDM2, and give its"
        " network to ScoreModel.from_edm"
        + (". Its samples are latents too" if channels == 4 else ""),
    )


def _named_tensors(module: Record) -> Iterator[tuple[str, Tensor]]:
    """Parameters and buffers by name, as in a state dict.

    Raises:
        ValueError: There are too many, or they are nested too deeply: a module may contain itself.
    """
    waiting: list[tuple[str, int, Record]] = [("", 0, module)]
    parts = 0
    while waiting:
        prefix, depth, inner = waiting.pop()
        for kind in ("_parameters", "_buffers"):
            for name, tensor in _table(inner.state, kind).items():
                parts += 1
                if isinstance(tensor, Tensor):
                    yield f"{prefix}{name}", tensor
        for name, child in _table(inner.state, "_modules").items():
            parts += 1
            if isinstance(child, Record):
                waiting.append((f"{prefix}{name}.", depth + 1, child))
        if parts > _MAX_PARTS or depth > _MAX_DEPTH:
            raise ValueError("its modules contain each other too often")


def _table(state: Mapping[str, object], name: str) -> Mapping[str, object]:
    """An attribute that is a table, or an empty one."""
    table = state.get(name, {})
    if not isinstance(table, dict):
        raise TypeError(f"{name} is no table")
    return table
