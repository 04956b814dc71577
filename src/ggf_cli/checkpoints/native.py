"""Read and write native checkpoints: one `.safetensors` file with weights and settings.

The tensors have the names of the native networks. The metadata in the header has one JSON document
under the key "ggf":

    schema           "ggf-checkpoint/1"
    network          {name: a key of NETWORKS, config: the arguments of its constructor}
    parametrization  a key of PARAMETRIZATIONS: how to compute the score from the network's output
    parametrization_config   its further arguments; may be absent
    classes          number of class labels of a conditional network; may be absent
    sde              as `SDE.to_dict`
    shape            the shape of one sample
    snr              recommended signal-to-noise ratio of the Langevin corrector; may be absent
    provenance       the source of the weights, their licence, the sha256 of the original file;
                     "assumptions": see `Checkpoint`
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor

from ggf_cli.checkpoints.documents import NATIVE_SCHEMA, NativeMetadata
from ggf_cli.checkpoints.tensors import check_header
from ggf_cli.documents import decode_json, violation
from ggf_cli.errors import CheckpointError, UsageError
from ggf_cli.sde import SDE, sde_from_dict


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """A checkpoint in memory: weights, and the settings needed to sample with them.

    The fields are described in the module's docstring, and:

    Attributes:
        assumptions: A sentence for each setting that was assumed because the original file does not
            state it. Loading the model warns of each. A native file has them in its provenance.
    """

    network: str
    network_config: dict[str, Any]
    parametrization: str
    sde: SDE
    shape: tuple[int, ...]
    tensors: dict[str, Tensor]
    provenance: dict[str, Any] = field(default_factory=dict)
    snr: float = 0.0
    assumptions: tuple[str, ...] = ()
    parametrization_config: dict[str, Any] = field(default_factory=dict)
    classes: int = 0

    def __post_init__(self) -> None:
        if type(self.snr) not in (int, float) or not 0 <= self.snr <= 1e3:
            raise ValueError(f"snr is {self.snr!r:.60}, it must be a number in [0, 1000]")


def to_bytes(checkpoint: Checkpoint) -> bytes:
    """Encode a checkpoint as the content of a native file."""
    provenance = dict(checkpoint.provenance)
    if checkpoint.assumptions:
        provenance["assumptions"] = list(checkpoint.assumptions)
    document: dict[str, Any] = {
        "schema": NATIVE_SCHEMA,
        "network": {"name": checkpoint.network, "config": checkpoint.network_config},
        "parametrization": checkpoint.parametrization,
        "sde": checkpoint.sde.to_dict(),
        "shape": list(checkpoint.shape),
        "provenance": provenance,
    }
    if checkpoint.snr:
        document["snr"] = checkpoint.snr
    if checkpoint.parametrization_config:
        document["parametrization_config"] = checkpoint.parametrization_config
    if checkpoint.classes:
        document["classes"] = checkpoint.classes
    tensors = {name: tensor.contiguous() for name, tensor in checkpoint.tensors.items()}
    return save(tensors, metadata={"ggf": json.dumps(document)})


def read(path: Path) -> Checkpoint:
    """Read a native file; the tensors are mapped from it, not copied.

    Raises:
        CheckpointError: The file is truncated or corrupt, or its metadata are missing or not valid.
    """
    check_header(path)
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    # For types that torch does not have, this raises KeyError or RuntimeError.
    except Exception as error:
        raise CheckpointError(
            f"{path} is corrupt or truncated: {error}", hint="download or convert the file again"
        ) from error
    if "ggf" not in metadata:
        raise CheckpointError(
            f"{path} has tensors but does not state their network",
            hint="give the folder with its config.json, or convert that folder:"
            " ggf convert FOLDER OUT.safetensors",
        )
    try:
        document = decode_json(metadata["ggf"].encode())
        found = document.get("schema", NATIVE_SCHEMA) if isinstance(document, dict) else None
        if isinstance(document, dict) and found != NATIVE_SCHEMA:
            raise CheckpointError(
                f"{path} has schema {found!r}, this version of ggf reads {NATIVE_SCHEMA!r}"
            )
        if wrong := violation(document, NativeMetadata):
            raise ValueError(wrong)
        provenance = dict(document["provenance"])
        return Checkpoint(
            network=document["network"]["name"],
            network_config=document["network"]["config"],
            parametrization=document["parametrization"],
            sde=sde_from_dict(document["sde"]),
            shape=tuple(document["shape"]),
            tensors=tensors,
            snr=document.get("snr", 0.0),
            parametrization_config=document.get("parametrization_config", {}),
            classes=document.get("classes", 0),
            provenance=provenance,
            assumptions=tuple(provenance.pop("assumptions", [])),
        )
    except (TypeError, ValueError, RecursionError, UsageError) as error:
        raise CheckpointError(f"the metadata of {path} are not valid: {error}") from error
