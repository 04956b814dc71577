"""Read and check `checkpoints.toml`, the registry of models.

The file is searched at GGF_MANIFEST, if that is set; otherwise in the package (an installed wheel),
then at the root of the repository (an editable install). This module does not import torch.
"""

from __future__ import annotations

import os
import re
import reprlib
import tomllib
from collections.abc import Callable
from dataclasses import MISSING, dataclass, fields, replace
from pathlib import Path
from typing import Any

from ggf_cli.errors import CheckpointError, ConfigError
from ggf_cli.files import read_file
from ggf_cli.registry import did_you_mean, lookup

PACKAGE = Path(__file__).resolve().parents[1]
EMBEDDED, HUB, DRIVE = "embedded", "hub", "drive"
# The prefix of a repository on the hub, as users write it.
HF = "hf:"
# Bytes. The file of ggf has 12 KB.
MAX_SIZE = 2**20


@dataclass(frozen=True, kw_only=True)
class ModelEntry:
    """A model in the registry: one block of `checkpoints.toml`.

    Attributes:
        name: The name of the block, which users type.
        summary: One line for users.
        dataset: The training data.
        sde: The SDE as in `SDE.to_dict`, without the data range: {name, t_eps, ...}.
        shape: Shape of one sample, (C, H, W).
        parameters: The number of trained parameters; 0 for exact models.
        source: The place of the weights: "embedded:FILE", "hub:OWNER/REPO" or "drive:FOLDER".
        sha256: The hash of the weights file; empty if none is published.
        license: The licence of the weights.
        citation: The work to cite.
        file: The weights file in the repository or folder.
        revision: Branch or commit of the repository; empty for the newest.
        snr: Signal-to-noise ratio of the Langevin corrector in the original experiments; 0 if they
            used no corrector.
        quality: The measured quality of the samples; empty if it was not measured.
        measured_by: The command that measured the quality.
    """

    name: str
    summary: str
    dataset: str
    sde: dict[str, Any]
    shape: tuple[int, ...]
    parameters: int
    source: str
    sha256: str
    license: str
    citation: str = ""
    file: str = ""
    revision: str = ""
    snr: float = 0.0
    quality: str = ""
    measured_by: str = ""

    @property
    def kind(self) -> str:
        """The kind of `source`: EMBEDDED, HUB or DRIVE."""
        return self.source.partition(":")[0]

    @property
    def place(self) -> str:
        """The place in `source`: a file name, a repository, or the id of a folder."""
        return self.source.partition(":")[2]


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


def find_model(name: str | Path) -> ModelEntry | Path:
    """Find the registered model or the existing path that a user's `--model` names.

    "hf:OWNER/REPO" and "hf:OWNER/REPO@REVISION" give an entry of their own, with the values of the
    registered model from that repository, if there is one.

    Raises:
        UsageError: No such model.
        CheckpointError: No file or folder at the path.
    """
    manifest = read_manifest()
    if str(name).startswith(HF):
        return _hub_entry(str(name), manifest)
    if str(name) in manifest or not looks_like_path(name):
        return lookup(manifest, str(name), "model", "see ggf list-models")
    path = Path(name)
    if not _exists(path):
        raise CheckpointError(f"no checkpoint at {path}", hint="see ggf list-models for names")
    return path


def _exists(path: Path) -> bool:
    """Whether a path exists; False if the name is too long or the folder is not readable."""
    try:
        return path.exists()
    except OSError:
        return False


def _hub_entry(name: str, manifest: dict[str, ModelEntry]) -> ModelEntry:
    """An entry for "hf:OWNER/REPO[@REVISION]", with the values of the registry if it is listed."""
    repo, _, revision = name.removeprefix(HF).partition("@")
    if not _SOURCE.fullmatch(f"{HUB}:{repo}"):
        raise CheckpointError(
            f"'{name}' is not the name of a repository",
            hint="write it like hf:google/ddpm-church-256",
        )
    source = f"{HUB}:{repo}"
    for entry in manifest.values():
        if entry.source == source:
            known = not revision or revision == entry.revision
            return replace(
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
    known = {f.name: f for f in fields(ModelEntry) if f.name != "name"}
    for key, value in block.items():
        if key not in known:
            hint = did_you_mean(key, known, f"keys: {', '.join(known)}")
            raise error(f"unknown key {key!r} in [{name}]", key, hint)
        wanted, good = _CHECKS.get(key, _TEXT)
        if not good(value):
            found = reprlib.repr(value)
            raise error(f"'{key}' in [{name}] is {found}, it must be {wanted}", key)
    for key, field in known.items():
        if field.default is MISSING and key not in block:
            raise error(f"[{name}] lacks the key '{key}'")
    entry = ModelEntry(name=name, **{**block, "shape": tuple(block["shape"])})
    if entry.kind != EMBEDDED and not entry.file:
        raise error(f"[{name}] lacks the key 'file', the weights file in {entry.source}")
    return entry


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**63


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < 1e38


def _is_sde(value: Any) -> bool:
    if not isinstance(value, dict) or str(value.get("name")) not in _SDE_KEYS:
        return False
    numbers = {key: number for key, number in value.items() if key != "name"}
    return numbers.keys() == _SDE_KEYS[value["name"]] and all(map(_is_number, numbers.values()))


_BETAS = {"beta_min", "beta_max", "t_eps"}
_SDE_KEYS = {"ve": {"sigma_min", "sigma_max", "t_eps"}, "vp": _BETAS, "subvp": _BETAS}
_SOURCE = re.compile(
    rf"{EMBEDDED}:[\w.-]+\.safetensors|{HUB}:[\w-][\w.-]*/[\w-][\w.-]*|{DRIVE}:[\w-]+"
)
_TEXT = (
    "a string without control characters",
    lambda value: isinstance(value, str) and value.isprintable(),
)

# The allowed values of a key, in words and as a test. Every other key is text.
_CHECKS: dict[str, tuple[str, Callable[[Any], bool]]] = {
    "parameters": ("a whole number, not negative", _is_count),
    "snr": ("a number, not negative", _is_number),
    "shape": (
        "a list of positive whole numbers",
        lambda value: (
            isinstance(value, list) and bool(value) and all(_is_count(v) and v for v in value)
        ),
    ),
    "sde": (
        (
            "{ name = 've', sigma_min, sigma_max, t_eps } or"
            " { name = 'vp', beta_min, beta_max, t_eps }"
        ),
        _is_sde,
    ),
    "file": (
        "a path in the repository or folder",
        lambda value: (
            isinstance(value, str) and bool(re.fullmatch(r"(?:[\w-][\w.-]*/)*[\w-][\w.-]*", value))
        ),
    ),
    "sha256": (
        "64 hexadecimal digits, or empty",
        lambda value: isinstance(value, str) and bool(re.fullmatch("([0-9a-f]{64})?", value)),
    ),
    "source": (
        f"'{EMBEDDED}:FILE.safetensors', '{HUB}:OWNER/REPO' or '{DRIVE}:FOLDER'",
        lambda value: isinstance(value, str) and bool(_SOURCE.fullmatch(value)),
    ),
}


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
