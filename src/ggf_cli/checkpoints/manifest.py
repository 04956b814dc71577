"""Read and check `checkpoints.toml`, the registry of models.

The file is searched at GGF_MANIFEST, if that is set; otherwise in the package (an installed wheel),
then at the root of the repository (an editable install). This module does not import torch.
"""

from __future__ import annotations

import itertools
import os
import re
import reprlib
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_type_hints

import msgspec

from ggf_cli.checkpoints.documents import EMBEDDED, HUB, SOURCE, ModelEntry, RegisteredSDE
from ggf_cli.checkpoints.user_code import UserCode, parse_user_code, require_file
from ggf_cli.documents import violation
from ggf_cli.errors import CheckpointError, ConfigError
from ggf_cli.files import read_file
from ggf_cli.registry import did_you_mean, lookup

PACKAGE = Path(__file__).resolve().parents[1]
# The prefix of a repository on the hub, as users write it.
HF = "hf:"
# Endings of files with weights.
WEIGHTS = (".safetensors", ".pth", ".pt", ".pkl", ".ckpt", ".bin")
# The start of the address of a repository in a browser.
HUB_PAGES = "https://huggingface.co/"
# Bytes. The file of ggf has 12 KB.
MAX_SIZE = 2**20


def find_manifest() -> Path:
    """Find the `checkpoints.toml` to use.

    Raises:
        ConfigError: There is none.
    """
    if override := os.environ.get("GGF_MANIFEST"):
        candidates = [Path(override)]
    else:
        candidates = [PACKAGE / "checkpoints.toml", PACKAGE.parents[1] / "checkpoints.toml"]
    for path in candidates:
        # Unlike `Path.is_file`, this never raises.
        if os.path.isfile(path):  # noqa: PTH113
            return path
    raise ConfigError(
        f"no checkpoints.toml at {' or '.join(map(str, candidates))}",
        hint="reinstall ggf-cli, or set GGF_MANIFEST to your own file",
    )


def read_manifest(path: Path | None = None) -> dict[str, ModelEntry]:
    """Read all models by name, in the order of the file.

    Raises:
        ConfigError: The file is not TOML, a key is unknown or missing, or a value is not valid; the
            message states the line.
    """
    path = path or find_manifest()
    try:
        text = read_file(path, MAX_SIZE).decode()
        blocks = tomllib.loads(text)
    except OSError as error:
        raise ConfigError(
            f"cannot read {path}: {error.strerror}", hint="make it readable, or set GGF_MANIFEST"
        ) from error
    # Not TOML, or not UTF-8.
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"cannot read {path}: {error}", hint="correct the file") from error
    return {name: _entry(name, block, text, path) for name, block in blocks.items()}


def looks_like_path(name: str | Path) -> bool:
    """Whether a name is that of a file or folder, not of a registered model."""
    return (
        isinstance(name, Path) or "/" in name or "." in name or (name != "" and _exists(Path(name)))
    )


@dataclass(frozen=True)
class RegisteredFacts:
    """What the choice of a metric depends on, of a model in the registry that is not loaded."""

    entry: ModelEntry

    @property
    def name(self) -> str:
        """The name of the model."""
        return self.entry.name

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of one sample."""
        return self.entry.shape

    @property
    def data_range(self) -> object:
        """All models of the registry are of images."""
        return (0, 1)

    @property
    def distribution(self) -> object:
        """The entry itself if the model is exact; else None."""
        return None if self.entry.parameters else self.entry

    @property
    def conditional(self) -> bool:
        """No exact model of the registry has conditions."""
        return False


def find_model(name: str | Path) -> ModelEntry | Path | UserCode:
    """Find the registered model, the existing path or the user's code that `--model` names.

    "hf:OWNER/REPO" and "hf:OWNER/REPO@REVISION" give an entry of their own, with the values of the
    registered model from that repository, if there is one.

    Raises:
        UsageError: No such model.
        CheckpointError: No file or folder at the path.
    """
    manifest = read_manifest()
    if str(name).startswith(HF):
        return _hub_entry(str(name), manifest)
    if str(name) not in manifest and (code := parse_user_code(name)):
        require_file(code)
        return code
    if str(name) in manifest or not looks_like_path(name):
        return lookup(manifest, str(name), "model", "see ggf list-models")
    path = Path(name)
    if not _exists(path):
        raise _no_checkpoint(name, manifest)
    return path


def _no_checkpoint(name: str | Path, manifest: dict[str, ModelEntry]) -> CheckpointError:
    """The error for a path that does not exist: a repository on the hub may be meant, or a file."""
    path, otherwise = Path(name), "see ggf list-models for names"
    repo = str(name).removeprefix(HUB_PAGES).strip("/")
    a_file = path.suffix.lower() in WEIGHTS
    if re.fullmatch(SOURCE, f"{HUB}:{repo}") and not a_file and not _exists(path.parent):
        for entry in manifest.values():
            if entry.source == f"{HUB}:{repo}":
                hint = f"did you mean '{entry.name}'? it is {HF}{repo}"
                return CheckpointError(f"no checkpoint at {name}", hint=hint)
        hint = f"did you mean '{HF}{repo}'? this downloads it from the hub; {otherwise}"
        return CheckpointError(f"no checkpoint at {name}", hint=hint)
    if not _exists(path.parent):
        hint = f"there is no folder {path.parent}; {otherwise}"
        return CheckpointError(f"no checkpoint at {name}", hint=hint)
    # As the user has written the folder.
    written = str(name)[: len(str(name)) - len(path.name)]
    there = [written + file for file in _names(path.parent)]
    if path.parent == Path():
        there += manifest
    return CheckpointError(
        f"no checkpoint at {name}", hint=did_you_mean(str(name), there, otherwise)
    )


def _names(folder: Path) -> list[str]:
    """The names in a folder, up to 1000; none if it cannot be read."""
    try:
        with os.scandir(folder) as entries:
            return [entry.name for entry in itertools.islice(entries, 1000)]
    except OSError:
        return []


def _exists(path: Path) -> bool:
    """Whether a path exists; False if the name is too long or the folder is not readable."""
    try:
        return path.exists()
    except OSError:
        return False


def _hub_entry(name: str, manifest: dict[str, ModelEntry]) -> ModelEntry:
    """An entry for "hf:OWNER/REPO[@REVISION]", with the values of the registry if it is listed."""
    repo, _, revision = name.removeprefix(HF).partition("@")
    if not re.fullmatch(SOURCE, f"{HUB}:{repo}"):
        raise CheckpointError(
            f"'{name}' is not the name of a repository",
            hint="write it like hf:google/ddpm-church-256",
        )
    source = f"{HUB}:{repo}"
    for entry in manifest.values():
        if entry.source == source:
            known = not revision or revision == entry.revision
            return msgspec.structs.replace(
                entry,
                name=name,
                revision=revision or entry.revision,
                sha256=entry.sha256 if known else "",
            )
    return ModelEntry(
        name=name,
        summary="",
        dataset="",
        sde={},
        shape=(),
        parameters=0,
        source=source,
        sha256="",
        license="",
        revision=revision,
    )


def _entry(name: str, block: Any, text: str, path: Path) -> ModelEntry:
    """Check one block of the file."""

    def error(problem: str, key: str | None = None, hint: str | None = None) -> ConfigError:
        return ConfigError(f"{path}, line {_line_of(text, name, key)}: {problem}", hint=hint)

    if not isinstance(block, dict):
        raise error(f"{name!r} is outside the block of a model", name)
    # Files are named after the model.
    if not re.fullmatch(r"\w[\w.-]*", name):
        raise error(
            f"{name!r} is not a valid name of a model", hint="use letters, digits, - _ and ."
        )
    known = tuple(field for field in ModelEntry.__struct_fields__ if field != "name")
    for key in block:
        if key not in known:
            hint = did_you_mean(key, known, f"keys: {', '.join(known)}")
            raise error(f"unknown key {key!r} in [{name}]", key, hint)
    if (wrong := violation({**block, "name": name}, ModelEntry)) and "missing" in wrong:
        lacking = wrong.split("`")[1]
        raise error(f"[{name}] lacks the key '{lacking}'")
    key = _wrong_key(block, wrong)
    if key is not None:
        found = reprlib.repr(block[key])
        raise error(f"'{key}' in [{name}] is {found}, it must be {_expected(key)}", key)
    entry = msgspec.convert({**block, "name": name}, ModelEntry)
    if entry.kind != EMBEDDED and not entry.file:
        raise error(f"[{name}] lacks the key 'file', the weights file in {entry.source}")
    return entry


def _wrong_key(block: dict[str, Any], wrong: str | None) -> str | None:
    """The key of a value that is not valid; `wrong` is the violation of `ModelEntry`, if any."""
    if wrong is not None:
        return wrong.partition("`$.")[2].split("`")[0].split("[")[0].split(".")[0]
    for key, value in block.items():
        if isinstance(value, str) and not value.isprintable():
            return key
    return "sde" if violation(block["sde"], RegisteredSDE) else None


def _expected(key: str) -> str:
    """The description of a field of `ModelEntry`, for messages."""
    notes = get_type_hints(ModelEntry, include_extras=True)[key].__metadata__
    return next(str(note.description) for note in notes if note.description)


def _line_of(text: str, block: str, key: str | None) -> int:
    """The line, from 1, of a key in a block, or of the block's header.

    tomllib does not keep the positions.
    """
    here, header = False, 1
    for number, line in enumerate(text.splitlines(), start=1):
        # The pattern can match in only one way. Otherwise a long line of blanks would take hours.
        if match := re.match(r"\s*\[([^\[\]]*)\]", line):
            here = match[1].strip().strip("\"'") == block
            header = number if here else header
        elif (
            key
            and (here or key == block)
            and re.match(rf"""\s*["']?{re.escape(key)}["']?\s*[=.]""", line)
        ):
            return number
    return header
