"""Read tensors from safetensors files, and from torch pickles that contain only tensors."""

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

# Bytes. The header of a published checkpoint has up to 0.1 MB.
MAX_HEADER = 4 * 2**20


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Read the tensors of a `.safetensors`, `.bin` or `.pth` file by name.

    Raises:
        CheckpointError: The file is corrupt, truncated, or not a flat table of tensors.
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
    # For types that torch does not have, this raises KeyError or RuntimeError.
    except Exception as error:
        raise CheckpointError(f"{path} is corrupt or truncated: {error}") from error


def check_header(path: Path) -> None:
    """Refuse a `.safetensors` file whose header is incomplete, or larger than `MAX_HEADER`.

    Raises:
        CheckpointError: The file is refused, or cannot be read.
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
            hint="download or convert the file again",
        )


def read_pickle(path: Path) -> dict[str, Any]:
    """Read a file of `torch.save`; its tensors are mapped from the file, and only read when used.

    No code from the file is run (`weights_only`), and it is checked before it is unpickled
    (`archive`).

    Raises:
        CheckpointError: The file is corrupt, truncated, or would have to run code.
    """
    inspect(path)
    try:
        try:
            content = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        except RuntimeError as error:
            if "mmap" not in str(error):
                raise
            # Files written before 2020 cannot be mapped.
            content = torch.load(path, map_location="cpu", weights_only=True)
    # A damaged file can raise almost any exception.
    except Exception as error:
        reason = (str(error).splitlines() or [repr(error)])[0]
        raise CheckpointError(f"{path} is corrupt or truncated: {reason}") from error
    if not isinstance(content, dict):
        raise CheckpointError(f"{path} is not a table of tensors")
    return content
