"""Read the checkpoints of EDM (NVlabs/edm): its `.pkl` files, and state dicts of its networks.

A `.pkl` file has the network in `ema`: a preconditioning (EDMPrecond and others) around a SongUNet
or a DhariwalUNet. `edm.unpickle` reads it as data, without the source code that it contains.
`edm.names` derives the network from its tensors.

Reference: Karras et al. 2022, arXiv:2206.00364.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from ggf_cli.checkpoints.archive import check_storage
from ggf_cli.checkpoints.edm.names import is_song_unet, recognise, renamed
from ggf_cli.checkpoints.edm.unpickle import Record, unpickle
from ggf_cli.checkpoints.hashes import file_sha256
from ggf_cli.checkpoints.native import Checkpoint
from ggf_cli.checkpoints.stated_sde import StatedSDE
from ggf_cli.diffusions import EDM
from ggf_cli.errors import CheckpointError, UsageError
from ggf_cli.sde import SDE

# The class of a preconditioning: the arguments of the parametrization, and their attributes.
PRECONDITIONINGS: dict[str, tuple[str, dict[str, str]]] = {
    "EDMPrecond": ("edm", {"sigma_data": "sigma_data"}),
    "VPPrecond": ("vp", {"beta_d": "beta_d", "beta_min": "beta_min", "levels": "M"}),
    "VEPrecond": ("ve", {}),
}
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
    """The checkpoint of a table of tensors with the names of EDM's SongUNet; None for others.

    Such a table does not state the preconditioning: that of EDM is assumed.

    Args:
        tensors: The tensors, whose names may start with "model.".
        path: The file, for messages and provenance.
        stated: The SDE if the user states it; else EDM's with its usual noise levels is assumed.

    Raises:
        CheckpointError: The network is not supported.
        UsageError: The stated SDE is not valid.
    """
    tensors = {name.removeprefix("model."): tensor for name, tensor in tensors.items()}
    if not is_song_unet(tensors):
        return None
    parametrization = {"preconditioning": "edm", "sigma_data": 0.5}
    assumed = (
        f"{path.name} does not state its preconditioning: that of EDM with sigma_data 0.5 is"
        " assumed, for data in [-1, 1]" + ("." if stated else " and noise levels from 0.002 to 80.")
    )
    sde = stated.make(data_range=(-1.0, 1.0)) if stated else EDM()
    try:
        return _song_unet(tensors, parametrization, sde, path, (assumed,))
    except _DAMAGE as error:
        raise CheckpointError(f"the network in {path} is damaged: {error!r:.300}") from error


def _from_record(network: Record, path: Path) -> Checkpoint:
    """The checkpoint of an object of EDM's code."""
    if network.name not in PRECONDITIONINGS:
        raise _unsupported(network.name, path)
    kind, names = PRECONDITIONINGS[network.name]
    model = _table(network.state, "_modules").get("model")
    if not isinstance(model, Record) or model.name != "SongUNet":
        raise _unsupported(model.name if isinstance(model, Record) else "no network", path)
    numbers = {name: network.state[attribute] for name, attribute in names.items()}
    lowest, highest = (_number(network.state[f"sigma_{end}"]) for end in ("min", "max"))
    try:
        sde = EDM(sigma_min=max(_SIGMAS[0], lowest), sigma_max=min(_SIGMAS[1], highest))
    except UsageError as error:
        raise CheckpointError(f"the noise levels of {path} are not valid: {error}") from error
    parametrization = {
        "preconditioning": kind,
        **{
            name: int(_number(value)) if name == "levels" else _number(value)
            for name, value in numbers.items()
        },
    }
    tensors = dict(_named_tensors(model))
    return _song_unet(tensors, parametrization, sde, path, ())


def _song_unet(
    tensors: Mapping[str, Tensor],
    parametrization: dict[str, Any],
    sde: SDE,
    path: Path,
    assumptions: tuple[str, ...],
) -> Checkpoint:
    """The checkpoint of the tensors of a SongUNet."""
    if not is_song_unet(tensors):
        raise CheckpointError(f"{path} lacks the tensors of a SongUNet")
    check_storage(tensors.values(), path)
    try:
        config, size = recognise(tensors)
        weights = renamed(tensors, config, size)
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
        network="ncsnpp",
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


def _unsupported(name: str, path: Path) -> CheckpointError:
    """The error for an object of another class."""
    known = "ggf reads SongUNet (DDPM++ and NCSN++) in EDMPrecond, VPPrecond or VEPrecond"
    reason = {
        "DhariwalUNet": "the network ADM of EDM's ImageNet models, which is not supported yet",
        "iDDPMPrecond": "EDM's baseline of ImageNet, whose network ADM is not supported yet",
        "Precond": "a network of EDM2, which is not supported",
    }.get(name, f"{name[:40]!r}, which is not supported")
    return CheckpointError(f"{path} has {reason}", hint=known)


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


def _number(value: object) -> float:
    """An attribute that is a number."""
    if type(value) is not float and type(value) is not int:
        raise TypeError(f"a {type(value).__name__} in the place of a number")
    return float(value)
