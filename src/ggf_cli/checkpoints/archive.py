"""What a file of `torch.save` would do when it is read, found out before it is.

`weights_only` runs no code, but lets a small file ask for any amount of memory: a `bytearray` of any size, a tensor made from a
number, a compressed record. So a file is read only if it holds what checkpoints hold: tables, numbers, text and dense tensors,
stored as they are. This module does not unpickle anything.
"""

from __future__ import annotations

import pickletools
import zipfile
from collections.abc import Iterable, Iterator
from io import BytesIO
from pathlib import Path
from typing import IO

from torch import Tensor

from ggf_cli.errors import CheckpointError
from ggf_cli.files import NotAFile, open_file

MAX_PICKLE = 4 * 2**20  # bytes; the largest published checkpoint has 0.5 MB beside its tensors
MAX_OPERATIONS = 1_000_000
_LEGACY_PICKLES = 5  # before the tensors of a file written before 2020

_STORAGES = ("Float", "Double", "Half", "BFloat16", "Long", "Int", "Short", "Char", "Byte", "Bool")
_KNOWN = {
    "collections OrderedDict",
    "torch._utils _rebuild_tensor_v2",
    "torch._utils _rebuild_parameter",
    "torch Size",
    "torch device",
    *(f"torch {kind}Storage" for kind in _STORAGES),
}


def inspect(path: Path) -> None:
    """Refuse a file that needs more than tables, numbers, text and tensors, or more memory than its size.

    Raises:
        CheckpointError: It does, or cannot be read.
    """
    try:
        with open_file(path) as file:
            zipped = file.read(2) == b"PK"
            file.seek(0)
            pickles = _zipped(file, path) if zipped else [file] * _LEGACY_PICKLES
            for pickle in pickles:
                _check_operations(pickle, path)
    except CheckpointError:
        raise
    except NotAFile as error:
        raise CheckpointError(f"{path} is not a file") from error
    except Exception as error:  # damage can surface as almost anything
        raise _refusal(path, f"{type(error).__name__}: {error}") from error


def check_storage(tensors: Iterable[Tensor], path: Path) -> None:
    """Refuse tensors that are more than their file: views of the same numbers, repeated without end.

    Raises:
        CheckpointError: They take more bytes than the file.
    """
    needed = sum(tensor.numel() * tensor.element_size() for tensor in tensors)
    try:
        size = path.stat().st_size
    except OSError as error:
        raise CheckpointError(f"cannot read {path}: {error.strerror}") from error
    if needed > size:
        raise _refusal(path, f"its tensors have {needed:,} bytes, it has {size:,}")


def _zipped(file: IO[bytes], path: Path) -> Iterator[IO[bytes]]:
    """The pickles of an archive whose records are as large as they seem."""
    with zipfile.ZipFile(file) as archive:
        for record in archive.infolist():
            if record.compress_type != zipfile.ZIP_STORED or record.file_size > path.stat().st_size:
                raise _refusal(path, f"its record {record.filename!r} is compressed")
            if record.filename.endswith(".pkl"):
                if record.file_size > MAX_PICKLE:
                    raise _refusal(path, f"its pickle has {record.file_size:,} bytes")
                yield BytesIO(archive.read(record))


def _check_operations(pickle: IO[bytes], path: Path) -> None:
    for number, (operation, argument, position) in enumerate(pickletools.genops(pickle)):
        if operation.name == "GLOBAL" and argument not in _KNOWN:
            raise CheckpointError(
                f"{path} is corrupt, or holds more than tensors: {str(argument)[:80]!r}",
                hint="ggf never runs code from a checkpoint; export the weights as safetensors",
            )
        if number > MAX_OPERATIONS or (position or 0) > MAX_PICKLE:
            raise _refusal(path, f"its pickle has more than {MAX_OPERATIONS:,} operations")


def _refusal(path: Path, reason: str) -> CheckpointError:
    return CheckpointError(f"{path} is corrupt or truncated: {reason}")
