"""JSON configurations of diffusers: read as data, every key accounted for.

A key that is not known may change the mathematics, so it is refused by name. Keys that are absent take the library's
defaults, as they do there; keys that start with "_" are the library's own notes.
"""

from __future__ import annotations

import json
from collections.abc import Collection
from pathlib import Path
from typing import Any

from ggf_cli.errors import CheckpointError
from ggf_cli.files import read_file

MAX_CONFIG = 2**20  # bytes; published ones have up to 2 KB


class Config:
    """The values of one configuration file, defaults filled in.

    Args:
        file: Where it was read, for messages.
        document: What was read.
        defaults: Every key whose value counts, with the library's default.
        ignored: Keys that change no score, whatever their value.

    Raises:
        CheckpointError: There is a key that is in neither.
    """

    def __init__(
        self,
        file: Path,
        document: dict[str, Any],
        *,
        defaults: dict[str, Any],
        ignored: Collection[str],
    ) -> None:
        self.file = file
        for key, value in document.items():
            if not (key.startswith("_") or key in defaults or key in ignored):
                raise CheckpointError(
                    f"{file}: {key} is {value!r:.60}, and ggf does not know what {key!r:.60} means",
                    hint="remove the key if diffusers draws the same images without it",
                )
        self._values = defaults | document

    def __getitem__(self, key: str) -> Any:
        return self._values[key]

    def refused(self, key: str, supported: str) -> CheckpointError:
        """The error for a value that is not supported; says which is."""
        return CheckpointError(
            f"{self.file}: {key} is {self[key]!r:.60}, only {supported} is supported"
        )

    def require(self, key: str, *supported: Any) -> None:
        """Raise `CheckpointError` unless the value is one of these."""
        if not any(self[key] == value for value in supported):
            raise self.refused(key, " or ".join(map(repr, supported)))

    def whole(self, key: str, *, optional: bool = False) -> int | None:
        """A whole number of at least 1; None too where optional. Raises `CheckpointError`."""
        value = self[key]
        if (type(value) is int and value >= 1) or (optional and value is None):
            return value
        raise self.refused(key, "a whole number from 1" + (" or None" if optional else ""))


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file.

    Raises:
        CheckpointError: No file, no JSON, no object, or too large.
    """
    try:
        document = json.loads(read_file(path, MAX_CONFIG).decode())
    except (OSError, ValueError, RecursionError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise CheckpointError(
            f"cannot read {path}: {reason}", hint="it must be a JSON file beside the weights"
        ) from error
    if not isinstance(document, dict):
        raise CheckpointError(f"{path} is not a JSON object")
    return document
