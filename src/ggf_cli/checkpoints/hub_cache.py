"""Find files in the cache of huggingface_hub. Makes no request and does not import torch."""

from __future__ import annotations

import re
from contextlib import suppress
from pathlib import Path, PureWindowsPath

from ggf_cli.errors import CheckpointError
from ggf_cli.files import read_file

# The branch of a repository that is read by default.
MAIN = "main"


def cached_file(repo: str, file: str, *, revision: str | None = None) -> Path | None:
    """The path of a file in the hub's cache, or None; makes no request.

    Raises:
        CheckpointError: A name is not valid, or points out of the cache.
    """
    return _in_cache("snapshots", repo, file, revision or MAIN)


def known_absent(repo: str, file: str, revision: str) -> bool:
    """Whether the hub stated before that this revision does not have the file."""
    return _in_cache(".no_exist", repo, file, revision) is not None


def _in_cache(where: str, repo: str, file: str, revision: str) -> Path | None:
    _check_names(repo, file, revision)
    # Only this part of the library, which loads fast: `ggf list-models` comes here for each model.
    from huggingface_hub import constants

    folder = Path(constants.HF_HUB_CACHE).expanduser() / f"models--{repo.replace('/', '--')}"
    # A cache that cannot be read counts as empty.
    with suppress(OSError):
        path = folder / where / _cached_commit(folder, revision) / file
        return path if path.is_file() else None
    return None


def _check_names(repo: str, file: str, revision: str) -> None:
    part = r"\w(?:[\w.-]*\w)?"
    if not re.fullmatch(f"{part}/{part}", repo, re.ASCII) or ".." in repo or "--" in repo:
        raise CheckpointError(
            f"{repo!r} is not the name of a repository", hint="write it as OWNER/NAME"
        )
    for kind, name in ("file in a repository", file), ("revision", revision):
        parts = name.split("/")
        inside = not PureWindowsPath(name).anchor and not {"", ".", ".."} & set(parts)
        if not (inside and name.isprintable() and "\\" not in name):
            raise CheckpointError(
                f"{name!r} is not the name of a {kind} (repository {repo})",
                hint="write it relative to the repository, with / and without ..",
            )


def is_commit(revision: str) -> bool:
    return bool(re.fullmatch("[0-9a-f]{7,40}", revision))


def _cached_commit(folder: Path, revision: str) -> str:
    """The commit of a revision at its last download; the revision itself if there was none."""
    ref = folder / "refs" / revision
    with suppress(FileNotFoundError):
        commit = read_file(ref, 2**10).decode(errors="replace").strip()
        if is_commit(commit):
            return commit
    if is_commit(revision):
        commits = [snapshot.name for snapshot in folder.glob(f"snapshots/{revision}*")]
        return commits[0] if len(commits) == 1 else revision
    return revision
