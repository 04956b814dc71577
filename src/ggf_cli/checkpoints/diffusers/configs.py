"""Read JSON configurations of diffusers, and refuse every unknown key.

An unknown key may change the mathematics, so the error names it. Absent keys take the defaults of
diffusers. Keys that start with "_" are metadata of diffusers.
"""

from __future__ import annotations

import json
from collections.abc import Collection
from pathlib import Path
from typing import Any

from ggf_cli.errors import CheckpointError
from ggf_cli.files import read_file

# Bytes. Published configurations have up to 2 KB.
MAX_CONFIG = 2**20


class Config:
    """The values of one configuration file, with defaults for absent keys.

    Args:
        file: The path of the file, for messages.
        document: The content of the file.
        defaults: Every key that changes the score, with the default of diffusers.
        ignored: Keys that never change the score.

    Raises:
        CheckpointError: A key is in neither `defaults` nor `ignored`.
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
                    f"{file}: {key} is {value!r:.60}, and {key!r:.60} is not a supported key",
                    hint="remove the key if diffusers generates the same images without it",
                )
        self._values = defaults | document

    def __getitem__(self, key: str) -> Any:
        return self._values[key]

    def refused(self, key: str, supported: str) -> CheckpointError:
        """The error for a value that is not supported; `supported` describes those that are."""
        return CheckpointError(
            f"{self.file}: {key} is {self[key]!r:.60}, only {supported} is supported"
        )

    def require(self, key: str, *supported: Any) -> None:
        """Raise `CheckpointError` unless the value is one of the supported ones."""
        if not any(self[key] == value for value in supported):
            raise self.refused(key, " or ".join(map(repr, supported)))

    def whole(self, key: str, *, optional: bool = False) -> int | None:
        """A whole number of at least 1, or None if `optional`; otherwise `CheckpointError`."""
        value = self[key]
        if (type(value) is int and value >= 1) or (optional and value is None):
            return value
        raise self.refused(key, "a whole number from 1" + (" or None" if optional else ""))


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON file that contains an object.

    Raises:
        CheckpointError: The file is missing or too large, or is not a JSON object.
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
