"""Read the tensors inside a pickle: each storage is a small file of `torch.save` of its own.

Such a file has five pickles, then the numbers:

    magic number, protocol, system     integers and a dict, with the order of the bytes
    object                             a reference ("storage", type, key, device, count, None)
    keys                               a list with the key
    count                              eight bytes
    numbers                            count times the size of the type

They are taken from the file only if all of this fits, so that memory is taken for bytes that are
there. Nothing is unpickled.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from io import BytesIO
from pickletools import genops
from typing import BinaryIO

import torch
from torch import Tensor

_MAGIC = 0x1950A86A20F9469CFC6C
_PROTOCOL = 1001
# Bytes. The five pickles have about 400.
_MAX_HEAD = 4096
_DTYPES = {
    "torch FloatStorage": torch.float32,
    "torch DoubleStorage": torch.float64,
    "torch HalfStorage": torch.float16,
    "torch BFloat16Storage": torch.bfloat16,
    "torch LongStorage": torch.int64,
    "torch IntStorage": torch.int32,
    "torch ShortStorage": torch.int16,
    "torch CharStorage": torch.int8,
    "torch ByteStorage": torch.uint8,
    "torch BoolStorage": torch.bool,
}


@dataclass(frozen=True)
class Global:
    """The name of a class or function in a pickle, "module attribute"."""

    name: str


@dataclass(frozen=True)
class Span:
    """The place of bytes in a file."""

    start: int
    size: int


class Storages:
    """The storages in a file. Each one is read once, also if it is named several times."""

    def __init__(self, file: BinaryIO, size: int) -> None:
        self.file = file
        self.size = size
        self.known: dict[Span, Tensor] = {}

    def read(self, span: Span) -> Tensor:
        """The numbers of a storage, (n,)."""
        if span not in self.known:
            position = self.file.tell()
            self.known[span] = self._read(span)
            self.file.seek(position)
        return self.known[span]

    def _read(self, span: Span) -> Tensor:
        self.file.seek(span.start)
        head = BytesIO(self.file.read(min(span.size, _MAX_HEAD)))
        dtype, count = _head(head)
        start = head.tell() + 8
        (stated,) = struct.unpack("<q", head.read(8))
        size = count * dtype.itemsize
        if stated != count or not 0 <= size <= span.size - start:
            raise ValueError(f"a storage of {span.size:,} bytes states {count:,} numbers")
        if not count:
            return torch.empty(0, dtype=dtype)
        buffer = bytearray(size)
        self.file.seek(span.start + start)
        if self.file.readinto(buffer) != size:  # type: ignore[attr-defined]
            raise ValueError("the file ends too early")
        # A byte that is neither 0 nor 1 is not a valid bool.
        if dtype == torch.bool:
            return torch.frombuffer(buffer, dtype=torch.uint8) != 0
        return torch.frombuffer(buffer, dtype=dtype)


def _head(file: BytesIO) -> tuple[torch.dtype, int]:
    """Read the five pickles: type and count of the numbers."""
    magic, protocol, system, content, _ = (_operations(file) for _ in range(5))
    if ("LONG1", _MAGIC) not in magic or ("BININT2", _PROTOCOL) not in protocol:
        raise ValueError("a storage that is no file of torch.save")
    order = system.index(("BINUNICODE", "little_endian"))
    if "NEWTRUE" not in [name for name, _ in system[order : order + 3]]:
        raise ValueError("a storage whose bytes are in the other order")
    values = [value for name, value in content if name not in ("PROTO", "BINPUT", "LONG_BINPUT")]
    names = [value for name, value in content if name == "GLOBAL"]
    # Other objects than one reference have other operations.
    last = [name for name, _ in content[-2:]]
    if last != ["BINPERSID", "STOP"] or len(names) != 1 or "storage" not in values:
        raise ValueError("a storage that has other objects")
    counts = [value for name, value in content if name in ("BININT", "BININT1", "BININT2", "LONG1")]
    if len(counts) != 1 or type(counts[0]) is not int:
        raise ValueError("a storage that does not state its size")
    return _DTYPES[str(names[0])], counts[0]


def _operations(file: BytesIO) -> list[tuple[str, object]]:
    """Names and arguments of the operations of the next pickle; they are not run."""
    return [(operation.name, argument) for operation, argument, _ in genops(file)]


def read_tensor(arguments: tuple[object, ...], most: int) -> Tensor:
    """The tensor from the arguments of `_rebuild_tensor_v2`: storage, offset, shape, strides.

    Args:
        arguments: The arguments.
        most: The largest size, in bytes. A stride of 0 could make any size from one number.
    """
    storage, offset, shape, strides = arguments[:4]
    if not isinstance(storage, Tensor) or storage.dim() != 1:
        raise TypeError("a tensor without a storage")
    if not isinstance(shape, tuple) or not isinstance(strides, tuple):
        raise TypeError("a tensor without a shape")
    count = storage.element_size()
    for size in shape:
        count *= _index(size)
        if count > most:
            raise ValueError("a tensor that is larger than the file")
    return storage.as_strided(
        [_index(size) for size in shape], [_index(stride) for stride in strides], _index(offset)
    )


def _index(value: object) -> int:
    """A size, stride or offset."""
    if type(value) is not int or not 0 <= value < 2**48:
        raise ValueError("a tensor whose shape is not valid")
    return value
