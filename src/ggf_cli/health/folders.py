"""Check the folders in which ggf writes."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

from ggf_cli.checkpoints.hashes import data_folder
from ggf_cli.errors import OutputError
from ggf_cli.files import sync
from ggf_cli.health import FAILED, OK, WARNING, Finding

# Bytes. The largest registered checkpoint has 0.5 GB, 50,000 images of 256 x 256 pixels have 5 GB.
LITTLE = 10**9


def folders() -> Finding:
    """Check write access and free space of the working folder, the hub's cache and ggf's data."""
    from huggingface_hub import constants

    found = {
        "working": _try(Path.cwd()),
        "cache": _try(Path(constants.HF_HUB_CACHE).expanduser()),
        "data": _try(data_folder()),
    }
    closed = [name for name, folder in found.items() if folder["error"]]
    full = [
        name
        for name, folder in found.items()
        if folder["free_bytes"] is not None and folder["free_bytes"] < LITTLE
    ]
    parts = [
        f"{name} {folder['path']}: {folder['error'] or _gigabytes(folder['free_bytes'])}"
        for name, folder in found.items()
    ]
    here = "working" in closed
    hint = "run ggf elsewhere, or give --out" if here else None
    if closed and not here:
        hint = "nothing can be downloaded: set HF_HOME and GGF_HOME to folders that can be written"
    elif full and not closed:
        hint = f"free some disk space for the {full[0]} folder"
    return Finding(
        summary="; ".join(parts),
        facts=found,
        status=FAILED if here else WARNING if closed or full else OK,
        hint=hint,
        exit_code=OutputError.exit_code if here else 0,
    )


def _try(path: Path) -> dict[str, Any]:
    """Try to write a file in a folder. If there is no folder, check whether it can be created."""
    there = path
    while not there.exists() and there != there.parent:
        there = there.parent
    error = None
    try:
        if there == path:
            with tempfile.TemporaryFile(dir=path) as file:
                file.write(b"ggf doctor")
                file.flush()
                sync(file.fileno())
        elif not (there.is_dir() and os.access(there, os.W_OK | os.X_OK)):
            error = f"cannot be created in {there}"
        free: int | None = shutil.disk_usage(there).free
    except OSError as problem:
        error, free = problem.strerror or str(problem), None
    return {"path": str(path), "exists": there == path, "free_bytes": free, "error": error}


def _gigabytes(free: int | None) -> str:
    return "writable" if free is None else f"{free / 1e9:.1f} GB free"
