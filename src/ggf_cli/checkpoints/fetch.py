"""Single files from the Hugging Face hub: cache, tokens and environment variables are `huggingface_hub`'s.

Added here: weights are compared with a known sha256 whenever they are asked for, and every failure is a
`CheckpointError`. Its message never repeats the text of a foreign error, which may hold a token or a signed
address. This module knows nothing of models and does not import torch.
"""

from __future__ import annotations

import logging
import re
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path, PureWindowsPath
from typing import Any
from urllib.parse import urlsplit

from ggf_cli.checkpoints.hashes import check_hash, file_sha256
from ggf_cli.checkpoints.pace import patience, watched
from ggf_cli.errors import CheckpointError, UsageError
from ggf_cli.files import read_file

MAIN = "main"


class MissingFile(CheckpointError):
    """The repository is there and does not have the file."""


class OfflineMiss(CheckpointError):
    """The file is not in the cache, and HF_HUB_OFFLINE forbids to ask for it."""


# Seconds before the second, third and fourth attempt.
_PAUSES = (0.2, 0.4, 0.8)


def fetch_file(
    repo: str,
    file: str,
    *,
    revision: str | None = None,
    sha256: str | None = None,
    verify: bool = True,
    quiet: bool = False,
) -> Path:
    """The path of a file in the hub's cache; downloaded if need be.

    A file that is here and has the given sha256, or is named by its commit, is not asked for again; of a
    branch the newest version is fetched.

    Args:
        repo: "OWNER/NAME".
        file: Its path in the repository.
        revision: A branch, tag or commit, whole or shortened; by default "main".
        sha256: What the file must be. By default it must stay what it was when first downloaded.
        verify: Whether to compare hashes at all.
        quiet: No progress bar and no remarks of the library.

    Raises:
        CheckpointError: Not to be had, not the file it should be, or not to be stored; says which.
    """
    cached = cached_file(repo, file, revision=revision)
    if cached and verify and sha256 and file_sha256(cached) == sha256.lower():
        return cached
    if cached and _is_commit(revision or MAIN):
        path = cached
    else:
        path = _download(repo, file, revision or MAIN, quiet)
    if verify:
        check_hash(path, sha256, repo, file, revision or MAIN)
    return path


def fetch_if_there(
    repo: str, file: str, *, revision: str | None = None, quiet: bool = False
) -> Path | None:
    """The path of a small file that a repository need not have; None if it has none.

    Offline, what is not in the cache is taken for absent, as in any other folder. With a network that fails, only
    what was absent when it was last asked for is.

    Raises:
        CheckpointError: As `fetch_file`, if it may be there.
    """
    revision = revision or MAIN
    if _is_commit(revision) and _known_absent(repo, file, revision):
        return None
    try:
        return fetch_file(repo, file, revision=revision, verify=False, quiet=quiet)
    except (MissingFile, OfflineMiss):
        return None
    except CheckpointError:
        if _known_absent(repo, file, revision):
            return None
        raise


def is_there(repo: str, file: str, *, revision: str | None = None) -> bool:
    """Whether a repository has a file, without fetching it; False if it cannot be asked."""
    with suppress(Exception):  # it is asked for the sake of a message
        from huggingface_hub import HfApi, constants

        _check_address(constants.ENDPOINT)
        _check_requests()
        hub = HfApi(endpoint=constants.ENDPOINT)
        return hub.file_exists(repo, file, revision=revision or MAIN)
    return False


def cached_file(repo: str, file: str, *, revision: str | None = None) -> Path | None:
    """The path of a file if it is in the hub's cache, without asking the network.

    Raises:
        CheckpointError: A name that is none, or that points out of the cache.
    """
    return _in_cache("snapshots", repo, file, revision or MAIN)


def _known_absent(repo: str, file: str, revision: str) -> bool:
    """Whether the hub said of this revision that it does not have the file."""
    return _in_cache(".no_exist", repo, file, revision) is not None


def _in_cache(where: str, repo: str, file: str, revision: str) -> Path | None:
    _check_names(repo, file, revision)
    from huggingface_hub import constants  # not more: a listing of models asks this for each

    folder = Path(constants.HF_HUB_CACHE).expanduser() / f"models--{repo.replace('/', '--')}"
    with suppress(OSError):  # a cache that cannot be read holds nothing for us
        path = folder / where / _cached_commit(folder, revision) / file
        return path if path.is_file() else None
    return None


def reach(*, timeout_s: float) -> None:
    """Ask the hub whether it is there; no token is sent.

    Raises:
        CheckpointError: It does not answer, or not over https.
    """
    from huggingface_hub import constants, get_session

    _check_address(constants.ENDPOINT)
    _check_requests()
    host = urlsplit(constants.ENDPOINT).hostname or "HF_ENDPOINT"
    try:
        with watched(get_session(), "anything", timeout_s):
            status = get_session().head(constants.ENDPOINT, timeout=timeout_s).status_code
    except CheckpointError:
        raise
    except Exception as error:
        raise CheckpointError(
            f"{host} cannot be reached: {_reason(error)}", hint="check the network and the proxy"
        ) from error
    if status >= 500:
        raise CheckpointError(f"{host} answers HTTP {status}", hint="try again later")


def _check_names(repo: str, file: str, revision: str) -> None:
    part = r"\w(?:[\w.-]*\w)?"
    if not re.fullmatch(f"{part}/{part}", repo, re.ASCII) or ".." in repo or "--" in repo:
        raise CheckpointError(f"{repo!r} is no name of a repository", hint="write it as OWNER/NAME")
    for what, name in ("file in a repository", file), ("revision", revision):
        parts = name.split("/")
        inside = not PureWindowsPath(name).anchor and not {"", ".", ".."} & set(parts)
        if not (inside and name.isprintable() and "\\" not in name):
            raise CheckpointError(
                f"{name!r} is no name of a {what}, asked of {repo}",
                hint="write it relative to the repository, with / and without ..",
            )


def _is_commit(revision: str) -> bool:
    return bool(re.fullmatch("[0-9a-f]{7,40}", revision))


def _cached_commit(folder: Path, revision: str) -> str:
    """The commit a revision stood for when last seen; the revision itself if that is not known."""
    ref = folder / "refs" / revision
    with suppress(FileNotFoundError):
        commit = read_file(ref, 2**10).decode(errors="replace").strip()
        if _is_commit(commit):
            return commit
    if _is_commit(revision):
        commits = [snapshot.name for snapshot in folder.glob(f"snapshots/{revision}*")]
        return commits[0] if len(commits) == 1 else revision
    return revision


def _download(repo: str, file: str, revision: str, quiet: bool) -> Path:
    try:
        from huggingface_hub import constants, get_session, hf_hub_download

        _check_address(constants.ENDPOINT)
        _check_requests()
        host = urlsplit(constants.ENDPOINT).hostname
        slow = watched(get_session(), f"{file} of {repo} from {host}", patience())
        with _silence() if quiet else nullcontext(), slow, warnings.catch_warnings():
            # The library warns of a disk that is too small, and then fills it.
            warnings.filterwarnings("error", message="Not enough free disk space")
            return Path(_persist(lambda: hf_hub_download(repo, file, revision=revision)))
    except (CheckpointError, UsageError):
        raise
    except Exception as error:
        raise _failure(error, repo, file, revision) from error


def _check_address(url: str) -> None:
    """Downloads go over https, so that nobody on the way can read a token or give another file; or stay on this machine."""
    address = urlsplit(url)
    host = address.hostname or ""
    loopback = host == "localhost" or host == "::1" or re.fullmatch(r"127(\.\d{1,3}){3}", host)
    if address.scheme != "https" and not (address.scheme == "http" and loopback):
        raise CheckpointError(
            f"{host or 'HF_ENDPOINT'} would be asked over {address.scheme or 'no protocol'}, ggf downloads over https only",
            hint="set HF_ENDPOINT to an address that starts with https://",
        )


def _check_requests() -> None:
    """Have the library's client ask `_check_address` before each request, those that it is redirected to among them."""
    from huggingface_hub import get_session

    hooks = getattr(get_session(), "event_hooks", None)
    if hooks is not None and _check_request not in hooks["request"]:  # None: a library before 1.0
        get_session().event_hooks = {**hooks, "request": [*hooks["request"], _check_request]}


def _check_request(request: Any) -> None:
    _check_address(str(request.url))


def _persist(call: Callable[[], str]) -> str:
    for pause in _PAUSES:
        try:
            return call()
        except Exception as error:
            if not _is_worth_repeating(error):
                raise
            time.sleep(pause)
    return call()


def _is_worth_repeating(error: Exception) -> bool:
    """Whether it may pass and the library has not repeated it itself.

    The library repeats a failing look-up six times in 23 s, and resumes a transfer that is cut off; it does
    neither when the transfer is answered 5xx or the connection is reset.
    """
    from huggingface_hub.errors import LocalEntryNotFoundError

    if isinstance(error, LocalEntryNotFoundError):
        return False
    reset = any(isinstance(link, ConnectionResetError) for link in _chain(error))
    return reset or (_status(error) or 0) >= 500


@contextmanager
def _silence() -> Iterator[None]:
    from huggingface_hub.utils.tqdm import (
        are_progress_bars_disabled,
        disable_progress_bars,
        enable_progress_bars,
    )

    log = logging.getLogger("huggingface_hub")
    bars, level = not are_progress_bars_disabled(), log.level
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        disable_progress_bars()
        log.setLevel(logging.CRITICAL)
        try:
            yield
        finally:
            log.setLevel(level)
            if bars:
                enable_progress_bars()


def _failure(error: Exception, repo: str, file: str, revision: str) -> CheckpointError:
    """What the library's error means to the user."""
    from huggingface_hub import constants, errors

    cause: BaseException = error
    if isinstance(error, errors.LocalEntryNotFoundError) and error.__cause__:
        cause = error.__cause__  # why it could not be looked up
    what, host = f"{file} of {repo}", urlsplit(constants.ENDPOINT).hostname or "HF_ENDPOINT"
    cache, status = constants.HF_HUB_CACHE, _status(cause)

    if isinstance(cause, errors.OfflineModeIsEnabled):
        return OfflineMiss(
            f"{what} is not in {cache}, and HF_HUB_OFFLINE forbids to download it",
            hint="unset HF_HUB_OFFLINE, or run the command once with a network",
        )
    if isinstance(cause, errors.GatedRepoError):
        message = f"{host} gives {what} only to those who accepted its terms (HTTP {status})"
        hint = f"accept them at {host}/{repo}, then set HF_TOKEN or run: hf auth login"
    elif isinstance(cause, errors.RevisionNotFoundError):
        message = f"{repo} at {host} has no revision {revision!r}"
        hint = f"see {host}/{repo}/commits/main"
    elif isinstance(cause, errors.RepositoryNotFoundError):
        message = f"{host} has no repository {repo}, or a private one"
        hint = "check the name; if it is private, set HF_TOKEN or run: hf auth login"
    elif isinstance(cause, errors.EntryNotFoundError) and status == 404:
        return MissingFile(
            f"{repo} at {host} has no file {file!r} at revision {revision}",
            hint=f"see {host}/{repo}/tree/{revision}",
        )
    elif status in (401, 403):
        message = f"{host} refuses {what} (HTTP {status})"
        hint = "set HF_TOKEN to a token that may read it, or run: hf auth login"
    elif status == 404 or isinstance(cause, errors.FileMetadataError):
        message = f"{host} does not answer like a hub when asked for {what}"
        hint = "check HF_ENDPOINT and the proxy"
    elif isinstance(cause, Warning) or (isinstance(cause, OSError) and cause.errno):
        reason = "not enough space" if isinstance(cause, Warning) else _reason(cause)
        message = f"cannot store {what} in {cache}: {reason}"
        hint = f"make room in {cache}, or set HF_HOME to a folder elsewhere"
    else:
        message = f"cannot download {what} from {host}: {_reason(cause)}"
        hint = "check the network, then run the same command again"
    return CheckpointError(message, hint=hint)


def _status(error: BaseException) -> int | None:
    status = getattr(getattr(error, "response", None), "status_code", None)
    return status if isinstance(status, int) else None


def _reason(error: BaseException) -> str:
    """In a few words that are not the foreign error's own."""
    if status := _status(error):
        return f"HTTP {status}"
    words = (link.strerror for link in _chain(error) if isinstance(link, OSError))
    return next(filter(None, words), type(error).__name__)


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error:
        yield error
        error = error.__cause__ or error.__context__
