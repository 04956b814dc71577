"""Read the index of weights that are split into several files.

This module does not import torch.
"""

from __future__ import annotations

import re
from pathlib import Path

from ggf_cli.documents import decode_json
from ggf_cli.errors import CheckpointError
from ggf_cli.files import read_file

# Bytes. An index has about 100 bytes for each tensor.
MAX_INDEX = 4 * 2**20
MAX_PARTS = 1000


def is_index(path: Path) -> bool:
    """Whether a weights file is an index of other files."""
    return path.suffix == ".json"


def weight_map(path: Path) -> dict[str, str]:
    """The name of each tensor, and of the file beside the index that has it.

    Raises:
        CheckpointError: The index cannot be read, or names a file that is not beside it.
    """
    try:
        document = decode_json(read_file(path, MAX_INDEX))
    except (OSError, ValueError, RecursionError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise CheckpointError(f"cannot read {path}: {reason}") from error
    found = document.get("weight_map") if isinstance(document, dict) else None
    if not isinstance(found, dict) or not found:
        raise CheckpointError(f"{path} has no weight_map, the file of each tensor")
    for file in found.values():
        if not isinstance(file, str) or not re.fullmatch(r"\w[\w.-]*\.(safetensors|bin)", file):
            raise CheckpointError(
                f"{path}: {file!r:.80} is not the name of a weights file beside it"
            )
    if len(set(found.values())) > MAX_PARTS:
        raise CheckpointError(f"{path} names more than {MAX_PARTS} files")
    return found


def parts_of(path: Path) -> list[str]:
    """The names of the files of weights that are split; none if the file is not an index.

    Raises:
        CheckpointError: As `weight_map`.
    """
    return sorted(set(weight_map(path).values())) if is_index(path) else []
