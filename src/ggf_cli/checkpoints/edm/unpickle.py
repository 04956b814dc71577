"""Read a pickle of EDM's code as inert records; no function or class of it is looked up or called.

A pickle is a program for a stack machine. Python's own machine imports what the program names and
calls it. This one has only the operations of data (numbers, text, lists, tables, references), and
of each class and function that EDM's files name it knows the result as data:

    an object of EDM's code     a `Record` of its class name and attributes; the source code that
                                the file has for the class is dropped
    torch.nn.ModuleDict         the same
    a tensor or parameter       a tensor, from a storage (`storages`)
    OrderedDict, EasyDict       a dict
    a number or array of numpy  a `Record` without attributes

Every other name or operation is refused. The size of the file, the number of operations, and the
sizes of texts and tensors have limits.
"""

from __future__ import annotations

import pickletools
import struct
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, TypeVar

from torch import Tensor

from ggf_cli.checkpoints.edm.storages import Global, Span, Storages, read_tensor
from ggf_cli.errors import CheckpointError
from ggf_cli.files import NotAFile, open_file

# Bytes. The largest published file has 1.2 GB.
MAX_FILE = 16 * 2**30
# Published files have up to about 200,000; each is at most a few hundred bytes of memory.
MAX_OPERATIONS = 1_000_000
# Bytes of text: names, and the source code of a few modules of 50 kB.
MAX_TEXT = 8 * 2**20
# The version of `torch_utils.persistence`.
PERSISTENCE = 6

_PERSISTENT = "torch_utils.persistence _reconstruct_persistent_obj"
_SCALARS = {
    "numpy.core.multiarray scalar",
    "numpy._core.multiarray scalar",
    "numpy.multiarray scalar",
}
# EDM2 stores the scale of its latents as arrays.
_ARRAYS = {
    "numpy.core.multiarray _reconstruct",
    "numpy._core.multiarray _reconstruct",
    "numpy ndarray",
}
_TABLES = {"collections OrderedDict", "dnnlib.util EasyDict"}
_MODULES = {
    "torch.nn.modules.container ModuleDict",
    "torch.nn.modules.container ModuleList",
}
_TENSOR = "torch._utils _rebuild_tensor_v2"
_PARAMETER = "torch._utils _rebuild_parameter"
_STORAGE = "torch.storage _load_from_bytes"
_DTYPE = "numpy dtype"
KNOWN = (
    {_PERSISTENT, _TENSOR, _PARAMETER, _STORAGE, _DTYPE} | _SCALARS | _ARRAYS | _TABLES | _MODULES
)

_OPERATIONS = {
    operation.code.encode("latin-1"): operation.name for operation in pickletools.opcodes
}
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_EMPTY = {"EMPTY_LIST": list, "EMPTY_DICT": dict, "EMPTY_SET": set}
_NUMBERS = {"BININT": "<i", "BININT1": "<B", "BININT2": "<H"}
_TEXTS = {"SHORT_BINUNICODE": "<B", "BINUNICODE": "<I", "BINUNICODE8": "<Q"}
_BYTES = {"SHORT_BINBYTES": "<B", "BINBYTES": "<I", "BINBYTES8": "<Q"}
_PUTS = {"BINPUT": "<B", "LONG_BINPUT": "<I"}
_GETS = {"BINGET": "<B", "LONG_BINGET": "<I"}
_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}

T = TypeVar("T")


@dataclass(eq=False)
class Record:
    """An object of the file as data: the name of its class, and its attributes."""

    name: str
    state: dict[str, object] = field(default_factory=dict)


def unpickle(path: Path) -> object:
    """The content of a file: dicts, lists, numbers, text, tensors and records.

    It may contain itself, and may be nested to any depth.

    Raises:
        CheckpointError: The file is corrupt, too large, or names another class or function.
    """
    try:
        with open_file(path, MAX_FILE) as file:
            size = file.seek(0, 2)
            file.seek(0)
            return Machine(file, size, path).run()
    except CheckpointError:
        raise
    except NotAFile as error:
        raise CheckpointError(f"{path} is not a file") from error
    # A damaged file can raise almost any exception.
    except Exception as error:
        raise CheckpointError(
            f"{path} is corrupt, or no pickle of EDM's code: {type(error).__name__}: {error}",
            hint="download the file again",
        ) from error


class Machine:
    """The stack machine of a pickle, for the operations of data."""

    def __init__(self, file: BinaryIO, size: int, path: Path) -> None:
        self.file = file
        self.size = size
        self.path = path
        self.stack: list[object] = []
        # Heights of the stack at the open marks.
        self.marks: list[int] = []
        self.memo: dict[int, object] = {}
        self.text = 0
        self.storages = Storages(file, size)

    def run(self) -> object:
        """Run the operations up to STOP; the object on the top of the stack."""
        for _ in range(MAX_OPERATIONS):
            code = self.file.read(1)
            name = _OPERATIONS.get(code)
            if name == "STOP":
                return self.pop()
            if name is None or not self.step(name):
                raise ValueError(f"operation {name or code!r} at byte {self.file.tell() - 1:,}")
        raise ValueError(f"more than {MAX_OPERATIONS:,} operations")

    def step(self, name: str) -> bool:
        """Do one operation; False if it is not known."""
        push = self.stack.append
        if name in _CONSTANTS:
            push(_CONSTANTS[name])
        elif name in _EMPTY:
            push(_EMPTY[name]())
        elif name in _NUMBERS:
            push(self.number(_NUMBERS[name]))
        elif name == "BINFLOAT":
            push(struct.unpack(">d", self.take(8))[0])
        elif name == "LONG1":
            push(int.from_bytes(self.take(self.number("<B")), "little", signed=True))
        elif name in _TEXTS:
            push(self.read_text(self.number(_TEXTS[name])))
        elif name in _BYTES:
            push(self.skip(self.number(_BYTES[name])))
        elif name in _PUTS:
            self.memo[self.number(_PUTS[name])] = self.stack[-1]
        elif name == "MEMOIZE":
            self.memo[len(self.memo)] = self.stack[-1]
        elif name in _GETS:
            push(self.memo[self.number(_GETS[name])])
        elif name in _TUPLES:
            push(tuple(reversed([self.pop() for _ in range(_TUPLES[name])])))
        elif name == "EMPTY_TUPLE":
            push(())
        elif name == "PROTO":
            self.take(1)
        elif name == "FRAME":
            self.take(8)
        elif name == "MARK":
            self.marks.append(len(self.stack))
        elif name == "POP":
            self.pop()
        else:
            return self.build(name)
        return True

    def build(self, name: str) -> bool:
        """Do an operation that makes or fills an object; False if it is not known."""
        match name:
            case "TUPLE":
                self.stack.append(tuple(self.marked()))
            case "APPEND" | "APPENDS":
                items = self.marked() if name == "APPENDS" else [self.pop()]
                _of(list, self.stack[-1]).extend(items)
            case "ADDITEMS":
                items = self.marked()
                _of(set, self.stack[-1]).update(_key(item) for item in items)
            case "SETITEM" | "SETITEMS":
                items = self.marked() if name == "SETITEMS" else [self.pop(), self.pop()][::-1]
                table = _of(dict, self.stack[-1])
                for key, value in zip(items[::2], items[1::2], strict=True):
                    table[_key(key)] = value
            case "GLOBAL":
                module, attribute = (self.file.readline(200).decode().strip() for _ in "ab")
                self.stack.append(self.find(module, attribute))
            case "STACK_GLOBAL":
                attribute, module = _of(str, self.pop()), _of(str, self.pop())
                self.stack.append(self.find(module, attribute))
            case "REDUCE" | "NEWOBJ":
                arguments, target = _of(tuple, self.pop()), _of(Global, self.pop())
                self.stack.append(self.make(target.name, arguments))
            case "BUILD":
                state = self.pop()
                # The attributes of a dict, or of a type or array of numpy, are not used.
                record = self.stack[-1]
                if isinstance(record, Record) and record.name not in _ARRAYS | {_DTYPE}:
                    record.state.update(_of(dict, state))
            case _:
                return False
        return True

    # --- reading ----------------------------------------------------------------------------------

    def take(self, count: int) -> bytes:
        """The next bytes."""
        if count > self.size - self.file.tell():
            raise ValueError("the file ends too early")
        return self.file.read(count)

    def skip(self, count: int) -> Span:
        """The place of the next bytes, which are not read."""
        start = self.file.tell()
        if count > self.size - start:
            raise ValueError("the file ends too early")
        self.file.seek(count, 1)
        return Span(start, count)

    def number(self, form: str) -> int:
        """The next integer, in a format of `struct`."""
        value: int = struct.unpack(form, self.take(struct.calcsize(form)))[0]
        return value

    def read_text(self, count: int) -> str:
        self.text += count
        if self.text > MAX_TEXT:
            raise ValueError(f"more than {MAX_TEXT:,} bytes of text")
        return self.take(count).decode("utf-8", "surrogatepass")

    # --- the stack --------------------------------------------------------------------------------

    def pop(self) -> object:
        if self.marks and self.marks[-1] == len(self.stack):
            raise ValueError("a mark in the place of an object")
        return self.stack.pop()

    def marked(self) -> list[object]:
        """Remove and return the objects above the last mark."""
        height = self.marks.pop()
        items = self.stack[height:]
        del self.stack[height:]
        return items

    # --- the names of the file --------------------------------------------------------------------

    def find(self, module: str, attribute: str) -> Global:
        """The name of a class or function, which is not imported."""
        name = f"{module} {attribute}"
        if name not in KNOWN:
            raise CheckpointError(
                f"{self.path} names {name.replace(' ', '.')[:80]!r}, which is not a part of EDM's"
                " checkpoints",
                hint="ggf never runs code from a checkpoint; if you trust the file, export its"
                " weights as a state dict",
            )
        return Global(name)

    def make(self, name: str, arguments: tuple[object, ...]) -> object:
        """The object that a class or function of `KNOWN` would return, as data."""
        if name == _PERSISTENT:
            return _persistent(_of(dict, arguments[0]))
        if name == _TENSOR:
            return read_tensor(arguments, self.size)
        if name == _PARAMETER:
            return _of(Tensor, arguments[0])
        if name == _STORAGE:
            return self.storages.read(_of(Span, arguments[0]))
        if name in _TABLES and not arguments:
            return {}
        if name in _MODULES | _SCALARS | _ARRAYS | {_DTYPE}:
            return Record(name)
        raise ValueError(f"arguments of {name}")


def _persistent(meta: dict[str, object]) -> Record:
    """An object of EDM's code. Its source code, `module_src`, is not used."""
    version, kind = meta["version"], meta["type"]
    if type(version) is not int or version != PERSISTENCE or kind != "class":
        raise ValueError(f"an object of version {str(version)[:20]!r}, not {PERSISTENCE}")
    return Record(_of(str, meta["class_name"]), dict(_of(dict, meta["state"])))


def _of(kind: type[T], value: object) -> T:
    """The value, which must have this type."""
    if not isinstance(value, kind):
        raise TypeError(f"a {type(value).__name__} in the place of a {kind.__name__}")
    return value


def _key(value: object) -> str | int:
    """A key of a table. The hash of others, such as nested tuples, could take any time."""
    if type(value) is str or type(value) is int:
        return value
    raise TypeError(f"a {type(value).__name__} as a key")
