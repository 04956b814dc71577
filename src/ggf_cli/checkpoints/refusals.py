"""Refuse files of models that ggf does not sample, by name, with what to do instead."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from ggf_cli.errors import CheckpointError
from ggf_cli.files import open_file

READABLE = (
    "ggf reads native .safetensors files, diffusers folders, .pth files of score_sde_pytorch and"
    " .pt files of denoising-diffusion-pytorch"
)
_OWN_CODE = (
    "write a function that builds the network, loads these weights and returns a ScoreModel, and"
    " name it: FILE.py:OBJECT (docs/guide/own-models.md)"
)
_LATENT = (
    "its network generates latents, and an autoencoder turns them into images: ggf samples models"
    " whose network generates the data. From Python, give the network as a ScoreModel of latents,"
    " and decode the samples yourself"
)
NO_SCORE = (
    "a consistency model maps noise to data in one step and has no score; sample the diffusion"
    " model that it was distilled from"
)
_FLOW = (
    "name your own code, FILE.py:OBJECT, with ScoreModel.from_velocity(network,"
    " convention='flow-matching'), which counts time from data to noise: give it lambda y, s:"
    " -network(y, 1 - s) if yours counts from noise to data. With pairs of optimal transport"
    " (OT-CFM) that formula is false, and there is no other: the pairs are not independent"
)

# Part of the name of a tensor -> what the file is, and what to do. The first that occurs counts.
_TENSORS = (
    ("first_stage_model.", "a latent diffusion model (LDM, Stable Diffusion)", _LATENT),
    ("cond_stage_model.", "a latent diffusion model (LDM, Stable Diffusion)", _LATENT),
    ("double_blocks.", "a latent flow-matching model (Flux)", _LATENT),
    ("joint_blocks.", "a latent flow-matching model (Stable Diffusion 3)", _LATENT),
    ("x_embedder.proj.", "a transformer of latents (DiT, SiT)", _LATENT),
)
# Keys of the table that `torch.save` wrote -> the same.
_KEYS = (
    (
        {"net_model", "ema_model", "sched", "optim"},
        "a flow-matching model of torchcfm (conditional flow matching)",
        _FLOW,
    ),
    ({"state_dict", "pytorch-lightning_version"}, "a checkpoint of PyTorch Lightning", _OWN_CODE),
)
# The first bytes of a table in msgpack.
_MSGPACK = (*range(0x80, 0x90), 0xDE, 0xDF)


def refusal(path: Path, content: Mapping[str, Any]) -> CheckpointError:
    """The refusal of a file of `torch.save` that no reader recognises.

    Args:
        path: The file.
        content: What `tensors.read_pickle` returned for it.
    """
    names = list(_names(content))
    for part, what, hint in _TENSORS:
        if any(part in name for name in names):
            return CheckpointError(f"{path} is {what}, which ggf does not sample", hint=hint)
    # The files of consistency_models are recognised by their names only.
    stem = path.stem.lower()
    if stem.startswith(("cd_", "ct_")) or "consistency" in stem:
        return CheckpointError(
            f"{path} is a consistency model, to judge by its name", hint=NO_SCORE
        )
    for keys, what, hint in _KEYS:
        if keys <= content.keys():
            return CheckpointError(f"{path} is {what}, which ggf does not sample", hint=hint)
    if path.suffix == ".pth":
        missing = next((key for key in ("model", "ema") if key not in content), "ema")
        return CheckpointError(
            f"{path} is not a checkpoint of score_sde_pytorch: it lacks {missing!r}",
            hint=f"such a file has the keys 'model' and 'ema'; for another network, {_OWN_CODE}",
        )
    return CheckpointError(
        f"{path} has weights of a network that ggf does not recognise", hint=_OWN_CODE
    )


def refusal_of_name(path: Path) -> CheckpointError:
    """The refusal of a file whose suffix no reader has."""
    if path.suffix in (".msgpack", ".flax", "") and _starts_as_msgpack(path):
        return CheckpointError(
            f"{path} is a checkpoint of JAX (flax msgpack), which ggf does not read",
            hint="the authors of score_sde published the same models as .pth files"
            " (yang-song/score_sde_pytorch); for others, " + _OWN_CODE,
        )
    if path.suffix == ".ckpt":
        return CheckpointError(
            f"{path} is a checkpoint of PyTorch Lightning or TensorFlow, as latent diffusion models"
            " have, which ggf does not read",
            hint=f"{_LATENT}. For a model of pixels, {_OWN_CODE}",
        )
    return CheckpointError(f"{path} is not a checkpoint that ggf can read", hint=READABLE)


def _names(content: Mapping[Any, Any]) -> Iterator[str]:
    """The names of the tensors in a table, and in tables inside it."""
    for name, value in content.items():
        if not isinstance(name, str):
            continue
        if isinstance(value, Tensor):
            yield name
        elif isinstance(value, Mapping):
            yield from (n for n, v in value.items() if isinstance(n, str) and isinstance(v, Tensor))


def _starts_as_msgpack(path: Path) -> bool:
    """Whether the first byte is that of a table in msgpack. JSON and text have others."""
    try:
        with open_file(path) as file:
            first = file.read(1)
    # Also `NotAFile`.
    except OSError:
        return False
    return bool(first) and first[0] in _MSGPACK
