"""Reads tensors from the files of others: safetensors, and pickles that hold nothing but tensors."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from ggf_cli.checkpoints.archive import check_storage, inspect
from ggf_cli.errors import CheckpointError
from ggf_cli.files import NotAFile, open_file

MAX_HEADER = 4 * 2**20  # bytes; published checkpoints have up to 0.1 MB


def read_tensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a `.safetensors`, `.bin` or `.pth` file by name.

    Raises:
        CheckpointError: Corrupt, truncated, or not a flat table of tensors.
    """
    if path.suffix != ".safetensors":
        tensors = read_pickle(path)
        if not all(isinstance(k, str) and isinstance(v, Tensor) for k, v in tensors.items()):
            raise CheckpointError(f"{path} is not a table of tensors")
        check_storage(tensors.values(), path)
        return tensors
    check_header(path)
    try:
        return load_file(path)
    except Exception as error:  # also KeyError and RuntimeError, for types that torch does not have
        raise CheckpointError(f"{path} is corrupt or truncated: {error}") from error


def check_header(path: Path) -> None:
    """Refuse a `.safetensors` file whose header is not all there, or larger than any that is meant.

    Raises:
        CheckpointError: It is.
    """
    try:
        with open_file(path) as file:
            stated, size = int.from_bytes(file.read(8), "little"), os.fstat(file.fileno()).st_size
    except NotAFile as error:
        raise CheckpointError(f"{path} is not a file") from error
    except OSError as error:
        raise CheckpointError(f"cannot read {path}: {error.strerror}") from error
    if stated > min(MAX_HEADER, size - 8):
        raise CheckpointError(
            f"{path} is corrupt or truncated: a header of {stated:,} bytes, in a file of {size:,}",
            hint="fetch or convert the file again",
        )


def read_pickle(path: Path) -> dict[str, Any]:
    """What `torch.save` wrote, its tensors mapped from the file: only what is used is ever read.

    No code from the file is run (`weights_only`), and it is looked at before it is unpickled (`archive`).

    Raises:
        CheckpointError: Corrupt, truncated, or in need of running code.
    """
    inspect(path)
    try:
        try:
            content = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        except RuntimeError as error:
            if "mmap" not in str(error):
                raise
            content = torch.load(path, map_location="cpu", weights_only=True)  # written before 2020
    except Exception as error:  # damage can surface as almost anything
        reason = (str(error).splitlines() or [repr(error)])[0]
        raise CheckpointError(f"{path} is corrupt or truncated: {reason}") from error
    if not isinstance(content, dict):
        raise CheckpointError(f"{path} is not a table of tensors")
    return content
