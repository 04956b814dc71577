"""`checkpoints.toml`: which models exist, read and checked without importing torch.

The file is looked for at GGF_MANIFEST, then inside the package (an installed wheel), then at the root of the
repository (an editable install).
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
HF = "hf:"  # what users write before a repository of their choice
MAX_SIZE = 2**20  # bytes; ours has 12 KB


@dataclass(frozen=True, kw_only=True)
class ModelEntry:
    """One block of `checkpoints.toml`.

    Attributes:
        name: The block's name, what users type.
        summary: One line for people.
        dataset: What it was trained on.
        sde: What `SDE.to_dict` gives, without the data range: {name, t_eps, ...}.
        shape: Shape of one sample, (C, H, W).
        parameters: Trained parameters; 0 for exact models.
        source: Where the weights are: "embedded:FILE", "hub:OWNER/REPO" or "drive:FOLDER".
        sha256: Of the weights file; empty where none is published.
        license: Of the weights.
        citation: Whom to cite.
        file: The weights file in the repository or folder.
        revision: Branch or commit of the repository; empty is the newest.
        snr: Signal-to-noise ratio of the Langevin corrector in the original experiments; 0 if there was none.
        quality: How good its samples are, as measured here; empty where it was not.
        measured_by: The command that measured it.
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
        """What kind of place `source` names: EMBEDDED, HUB or DRIVE."""
        return self.source.partition(":")[0]

    @property
    def place(self) -> str:
        """That place: a file name, a repository, or a folder's id."""
        return self.source.partition(":")[2]


def find_manifest() -> Path:
    """The `checkpoints.toml` in force. Raises `ConfigError` if there is none."""
    if override := os.environ.get("GGF_MANIFEST"):
        candidates = [Path(override)]
    else:
        candidates = [PACKAGE / "checkpoints.toml", PACKAGE.parents[1] / "checkpoints.toml"]
    for path in candidates:
        if os.path.isfile(path):  # noqa: PTH113 - does not raise
            return path
    raise ConfigError(
        f"no checkpoints.toml at {' or '.join(map(str, candidates))}",
        hint="reinstall ggf-cli, or set GGF_MANIFEST to your own file",
    )


def read_manifest(path: Path | None = None) -> dict[str, ModelEntry]:
    """All models by name, in the order of the file.

    Raises:
        ConfigError: Not TOML, an unknown or missing key, or a wrong type; says which line.
    """
    path = path or find_manifest()
    try:
        text = read_file(path, MAX_SIZE).decode()
        blocks = tomllib.loads(text)
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}", hint="mend the file") from error
    except (ValueError, RecursionError) as error:  # not TOML, not UTF-8
        raise ConfigError(f"cannot read {path}: {error}", hint="mend the file") from error
    return {name: _entry(name, block, text, path) for name, block in blocks.items()}


def looks_like_path(name: str | Path) -> bool:
    """Whether this names a file or folder rather than a registered model."""
    return (
        isinstance(name, Path) or "/" in name or "." in name or (name != "" and _exists(Path(name)))
    )


def find_model(name: str | Path) -> ModelEntry | Path:
    """What a user's `--model` means: a registered model, or a path that exists.

    "hf:OWNER/REPO" or "hf:OWNER/REPO@REVISION" is an entry of its own, about which nothing is known yet.

    Raises:
        UsageError: No such model.
        CheckpointError: A path at which there is nothing.
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
    """Whether there is something; a name too long or a folder that may not be entered has nothing for us."""
    try:
        return path.exists()
    except OSError:
        return False


def _hub_entry(name: str, manifest: dict[str, ModelEntry]) -> ModelEntry:
    """An entry for "hf:OWNER/REPO[@REVISION]"; what the registry knows of that repository counts."""
    repo, _, revision = name.removeprefix(HF).partition("@")
    if not _SOURCE.fullmatch(f"{HUB}:{repo}"):
        raise CheckpointError(
            f"'{name}' names no repository", hint="like hf:google/ddpm-church-256"
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
        name=name, summary="", dataset="", sde={}, shape=(), parameters=0, source=source,
        sha256="", license="", revision=revision,
    )  # fmt: skip


def _entry(name: str, block: Any, text: str, path: Path) -> ModelEntry:
    def error(problem: str, key: str | None = None, hint: str | None = None) -> ConfigError:
        return ConfigError(f"{path}, line {_line_of(text, name, key)}: {problem}", hint=hint)

    if not isinstance(block, dict):
        raise error(f"{name!r} stands outside a model's block", name)
    if not re.fullmatch(r"\w[\w.-]*", name):  # files are named after it
        raise error(f"{name!r} is no name of a model", hint="letters, digits, - _ and .")
    known = {f.name: f for f in fields(ModelEntry) if f.name != "name"}
    for key, value in block.items():
        if key not in known:
            hint = did_you_mean(key, known, f"keys: {', '.join(known)}")
            raise error(f"unknown key {key!r} in [{name}]", key, hint)
        wanted, good = _CHECKS.get(key, _TEXT)
        if not good(value):
            what = reprlib.repr(value)
            raise error(f"'{key}' in [{name}] is {what}, it must be {wanted}", key)
    for key, field in known.items():
        if field.default is MISSING and key not in block:
            raise error(f"[{name}] lacks the key '{key}'")
    entry = ModelEntry(name=name, **{**block, "shape": tuple(block["shape"])})
    if entry.kind != EMBEDDED and not entry.file:
        raise error(f"[{name}] lacks the key 'file', which names the weights in {entry.source}")
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

# What a key's value must be, in words and as a test; every other key is text.
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
        "{ name = 've', sigma_min, sigma_max, t_eps } or { name = 'vp', beta_min, beta_max, t_eps }",
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
    """The line, from 1, of a key in a block, or of the block's header; tomllib does not keep positions."""
    here, header = False, 1
    for number, line in enumerate(text.splitlines(), start=1):
        # one way to match only: a line of blanks would keep a cleverer pattern busy for hours
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
