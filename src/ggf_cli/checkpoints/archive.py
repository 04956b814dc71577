"""Check which globals a torch pickle refers to, and how much memory it needs, before loading it.

`torch.load(weights_only=True)` runs no code, but a small file can make it take any amount of
memory: with a `bytearray` of any size, a tensor built from a number, or a compressed record. So a
file is refused unless it has only tables, numbers, text and dense tensors, all uncompressed. This
module does not unpickle anything.
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

# Bytes. The pickle of the largest published checkpoint has 0.5 MB, without its tensors.
MAX_PICKLE = 4 * 2**20
MAX_OPERATIONS = 1_000_000
# The number of pickles before the tensors, in a file written before 2020.
_LEGACY_PICKLES = 5

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
    """Refuse a file with other objects than tables, numbers, text and tensors, or a huge pickle.

    Raises:
        CheckpointError: The file is refused, or cannot be read.
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
    # A damaged file can raise almost any exception.
    except Exception as error:
        raise _refusal(path, f"{type(error).__name__}: {error}") from error


def check_storage(tensors: Iterable[Tensor], path: Path) -> None:
    """Refuse tensors that are larger than their file, because they repeat the same numbers.

    Raises:
        CheckpointError: The tensors have more bytes than the file.
    """
    needed = sum(tensor.numel() * tensor.element_size() for tensor in tensors)
    try:
        size = path.stat().st_size
    except OSError as error:
        raise CheckpointError(f"cannot read {path}: {error.strerror}") from error
    if needed > size:
        raise _refusal(path, f"its tensors have {needed:,} bytes, it has {size:,}")


def _zipped(file: IO[bytes], path: Path) -> Iterator[IO[bytes]]:
    """The pickles of an archive; refused if a record is compressed."""
    with zipfile.ZipFile(file) as archive:
        for record in archive.infolist():
            if record.compress_type != zipfile.ZIP_STORED or record.file_size > path.stat().st_size:
                raise _refusal(path, f"its record {record.filename!r} is compressed")
            if record.filename.endswith(".pkl"):
                if record.file_size > MAX_PICKLE:
                    raise _refusal(path, f"its pickle has {record.file_size:,} bytes")
                yield BytesIO(archive.read(record))


def _check_operations(pickle: IO[bytes], path: Path) -> None:
    """Refuse a pickle with unknown globals, or with too many operations or bytes."""
    for number, (operation, argument, position) in enumerate(pickletools.genops(pickle)):
        if operation.name == "GLOBAL" and argument not in _KNOWN:
            raise CheckpointError(
                f"{path} is corrupt, or has other objects than tensors: {str(argument)[:80]!r}",
                hint="ggf never runs code from a checkpoint; export the weights as safetensors",
            )
        if number > MAX_OPERATIONS or (position or 0) > MAX_PICKLE:
            raise _refusal(path, f"its pickle has more than {MAX_OPERATIONS:,} operations")


def _refusal(path: Path, reason: str) -> CheckpointError:
    return CheckpointError(f"{path} is corrupt or truncated: {reason}")
