"""Reads tensors from the files of others: safetensors, and pickles that hold nothing but tensors."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from ggf_cli.errors import CheckpointError


def read_tensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a `.safetensors`, `.bin` or `.pth` file by name.

    Raises:
        CheckpointError: Corrupt, truncated, or not a flat table of tensors.
    """
    if path.suffix != ".safetensors":
        tensors = read_pickle(path)
        if not all(isinstance(tensor, Tensor) for tensor in tensors.values()):
            raise CheckpointError(f"{path} is not a table of tensors")
        return tensors
    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path} is corrupt or truncated: {error}") from error


def read_pickle(path: Path) -> dict[str, Any]:
    """What `torch.save` wrote, its tensors mapped from the file: only what is used is ever read.

    No code from the file is run (`weights_only`).

    Raises:
        CheckpointError: Corrupt, truncated, or in need of running code.
    """
    try:
        try:
            content = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        except RuntimeError as error:
            if "mmap" not in str(error):
                raise
            content = torch.load(path, map_location="cpu", weights_only=True)  # written before 2020
    except pickle.UnpicklingError as error:
        raise CheckpointError(
            f"{path} is corrupt, or holds more than tensors: {str(error).splitlines()[0]}",
            hint="ggf never runs code from a checkpoint; export the weights as safetensors",
        ) from error
    except Exception as error:  # damage can surface as almost anything
        raise CheckpointError(f"{path} is corrupt or truncated: {error}") from error
    if not isinstance(content, dict):
        raise CheckpointError(f"{path} is not a table of tensors")
    return content
