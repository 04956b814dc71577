"""Verify the sha256 of the checkpoints on this machine."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from ggf_cli.checkpoints.documents import EMBEDDED, HUB
from ggf_cli.checkpoints.hashes import expected_sha256, file_sha256
from ggf_cli.checkpoints.locate import local_path
from ggf_cli.checkpoints.manifest import find_manifest, read_manifest
from ggf_cli.errors import CheckpointError
from ggf_cli.health import FAILED, OK, WARNING, Finding

INTACT, ALTERED, UNKNOWN, MISSING = "intact", "altered", "unknown", "missing"


def package() -> Finding:
    """Verify the models and the features in the package, against the registry."""
    from ggf_cli.metrics import classifier

    entries = [entry for entry in read_manifest().values() if entry.kind == EMBEDDED]
    states = [_state(entry.name, local_path(entry), entry.sha256) for entry in entries]
    states.append(_state("fashion-features", classifier.ASSET, classifier.SHA256))
    return _finding(states, {"registry": str(find_manifest())}, "reinstall ggf-cli")


def cache() -> Finding:
    """Verify downloaded and converted models, against the registry or the hash from the hub."""
    from huggingface_hub import constants

    entries = [entry for entry in read_manifest().values() if entry.kind != EMBEDDED]
    states = []
    for entry in entries:
        if path := local_path(entry):
            # A model that the user has converted has no published hash.
            known = entry.sha256 if entry.kind == HUB else None
            states.append(_state(entry.name, path, expected_sha256(path, known)))
    folder = Path(constants.HF_HUB_CACHE).expanduser()
    parts = []
    for path in folder.glob("models--*/blobs/*.incomplete"):
        # A download that finishes now removes its file.
        with suppress(FileNotFoundError):
            parts.append(path.stat().st_size)
    facts = {
        "folder": str(folder),
        "unfinished": len(parts),
        "unfinished_bytes": sum(parts),
    }
    bad = [state["path"] for state in states if state["state"] == ALTERED]
    hint = f"delete {Path(bad[0]).resolve()}; it is downloaded again when it is used" if bad else ""
    return _finding(states, facts, hint)


def _state(name: str, path: Path | None, expected: str | None) -> dict[str, Any]:
    """Compare the hash of a file with the expected one; the facts about the file."""
    if path is None or not path.is_file():
        return {"name": name, "path": None, "bytes": None, "sha256": None, "state": MISSING}
    found = file_sha256(path)
    state = UNKNOWN if not expected else INTACT if found == expected else ALTERED
    size = path.stat().st_size
    return {"name": name, "path": str(path), "bytes": size, "sha256": found, "state": state}


def _finding(states: Sequence[dict[str, Any]], facts: dict[str, Any], hint: str) -> Finding:
    """Summarise the states of all files; `hint` is used if a file is altered or missing."""
    by_state = {
        wanted: [state["name"] for state in states if state["state"] == wanted]
        for wanted in (INTACT, UNKNOWN, ALTERED, MISSING)
    }
    size = sum({state["path"]: state["bytes"] or 0 for state in states}.values())
    parts = [f"{len(by_state[INTACT])} intact ({size / 1e6:.0f} MB)"] if states else ["empty"]
    parts += [f"no published sha256: {', '.join(by_state[UNKNOWN])}"] if by_state[UNKNOWN] else []
    wrong = [
        f"{state}: {', '.join(by_state[state])}" for state in (ALTERED, MISSING) if by_state[state]
    ]
    unfinished = bool(facts.get("unfinished"))
    if unfinished:
        parts.append(f"{facts['unfinished']} unfinished downloads")
    return Finding(
        summary=" · ".join([*wrong, *parts]),
        facts={**facts, "models": list(states)},
        status=FAILED if wrong else WARNING if unfinished else OK,
        hint=hint if wrong else "ggf download NAME finishes them" if unfinished else None,
        exit_code=CheckpointError.exit_code if wrong else 0,
    )
