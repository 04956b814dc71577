"""Load a model from the user's own Python code: `FILE.py:OBJECT` or `package.module:OBJECT`.

This is the only place where code that is not part of an installed package is run, and only because
the user typed its name. Names from a `run.json`, an image, the registry or the hub must not get
here: see `ggf show --repeat`. Parsing a name does not import torch and runs nothing.
"""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import os
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, TypeVar

from ggf_cli.errors import CheckpointError, UsageError
from ggf_cli.files import sha256
from ggf_cli.registry import did_you_mean

if TYPE_CHECKING:
    import torch

    from ggf_cli.score import ScoreModel

T = TypeVar("T")

# Bytes of a Python file.
MAX_SOURCE = 2**26
_IDENTIFIER = r"[A-Za-z_]\w*"
_MODULE = re.compile(rf"({_IDENTIFIER}(?:\.{_IDENTIFIER})*):({_IDENTIFIER})")
_FILE = re.compile(rf"(.+\.py):({_IDENTIFIER})", re.DOTALL)


@dataclass(frozen=True, kw_only=True)
class UserCode:
    """An object in the user's code.

    Attributes:
        text: The name as typed: "mynet.py:model".
        place: The path of the file, or the name of the module.
        attribute: The name of the object.
        is_file: Whether `place` is a file.
    """

    text: str
    place: str
    attribute: str
    is_file: bool


def parse_user_code(name: str | Path) -> UserCode | None:
    """Parse "FILE.py:OBJECT" or "package.module:OBJECT"; None for other names, as "hf:OWNER"."""
    text = str(name)
    if text.startswith("hf:"):
        return None
    for pattern, is_file in ((_FILE, True), (_MODULE, False)):
        if match := pattern.fullmatch(text):
            return UserCode(text=text, place=match[1], attribute=match[2], is_file=is_file)
    return None


def require_file(code: UserCode) -> None:
    """Check that the file of the code exists, without importing it.

    Raises:
        CheckpointError: There is no such file.
    """
    # Unlike `Path.is_file`, this never raises.
    if code.is_file and not os.path.isfile(code.place):  # noqa: PTH113
        raise CheckpointError(f"no file {code.place}", hint="write it as FILE.py:OBJECT")


def load_object(code: UserCode) -> object:
    """Import the code and return its object.

    Raises:
        UsageError: The code cannot be imported, or has no such object.
        CheckpointError: There is no such file.
    """
    module = _import(code)
    if not hasattr(module, code.attribute):
        names = [name for name in vars(module) if not name.startswith("_")]
        hint = did_you_mean(code.attribute, names, f"it has {', '.join(names[:9]) or 'nothing'}")
        raise UsageError(f"{code.place} has no {code.attribute!r}", hint=hint)
    found: object = getattr(module, code.attribute)
    return found


def load_user_model(code: UserCode, device: str | torch.device = "auto") -> ScoreModel:
    """Import the code and return its model. The sha256 of its file is in the provenance.

    Args:
        code: An object that is a `ScoreModel`, or a function that returns one. A function with an
            argument `device` gets a torch device.
        device: "auto" or a device. A model, or a function without `device`, must be on it.

    Raises:
        UsageError: The code cannot be imported, has no such object, or the object is no model.
        CheckpointError: There is no such file.
    """
    import torch

    from ggf_cli.runtime.devices import resolve_device
    from ggf_cli.score import ScoreModel

    found, target = load_object(code), resolve_device(device)
    if not isinstance(found, ScoreModel | torch.nn.Module):
        if not callable(found):
            raise _no_model(code, found)
        make: Callable[..., object] = found
        takes_device = "device" in inspect.signature(make).parameters
        found = _call(code, lambda: make(device=target) if takes_device else make())
    if not isinstance(found, ScoreModel):
        raise _no_model(code, found)
    if str(device) != "auto" and torch.device(found.device).type != target.type:
        raise UsageError(
            f"{code.text} is on {found.device}, device is {device}",
            hint=f"move the model there, or let {code.attribute} be a function of `device`",
        )
    source = Path(str(sys.modules[_module_name(code)].__file__))
    provenance = {
        **(found.provenance or {}),
        "file": source.name,
        "sha256": sha256(source, MAX_SOURCE),
        "code": code.text,
    }
    name = code.text if found.name == "custom" else found.name
    return replace(found, name=name, provenance=provenance)


def _import(code: UserCode) -> ModuleType:
    if not code.is_file:
        # As `python -m`: modules of the working folder come first.
        _search(Path.cwd())
        return _call(code, lambda: importlib.import_module(code.place))
    require_file(code)
    path = Path(code.place)
    # As `python FILE.py`: the file may import its neighbours.
    _search(path.resolve().parent)
    spec = importlib.util.spec_from_file_location(_module_name(code), path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[_module_name(code)] = module
    loader = spec.loader
    _call(code, lambda: loader.exec_module(module))
    return module


def _module_name(code: UserCode) -> str:
    """The name in `sys.modules`: that of a file hides no other module."""
    return f"ggf_user.{Path(code.place).stem}" if code.is_file else code.place


def _search(folder: Path) -> None:
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))


def _call(code: UserCode, function: Callable[[], T]) -> T:
    """Call the user's code; its errors become a `UsageError` with the place."""
    try:
        return function()
    except Exception as error:
        raise UsageError(
            f"{code.text} raised {type(error).__name__}: {error}",
            hint="GGF_DEBUG=1 shows the traceback",
        ) from error


def _no_model(code: UserCode, found: object) -> UsageError:
    return UsageError(
        f"{code.text} is a {type(found).__name__}, it must be a ScoreModel, or a function that"
        " returns one",
        hint="wrap it: ggf_cli.ScoreModel(score=..., sde=ggf_cli.VPSDE(), shape=(3, 32, 32))",
    )
