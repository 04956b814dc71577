"""Download single files from the Hugging Face hub and verify them.

`huggingface_hub` provides the cache, the tokens and the environment variables. Added here: weights
are compared with a known sha256 at each use, and every failure is a `CheckpointError`. This module
handles files, not models, and does not import torch.
"""

from __future__ import annotations

import logging
import math
import re
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from time import monotonic
from typing import Any
from urllib.parse import urlsplit

from ggf_cli.checkpoints.attempts import Attempts, Failing
from ggf_cli.checkpoints.hashes import check_hash, file_sha256
from ggf_cli.checkpoints.hub_cache import MAIN, cached_file, is_commit, known_absent
from ggf_cli.checkpoints.hub_connection import check_connection
from ggf_cli.checkpoints.hub_errors import (
    MissingFile,
    OfflineMiss,
    Unreachable,
    error_chain,
    http_status,
    hub_failure,
    reason_of,
)
from ggf_cli.checkpoints.pace import TooSlow, watched
from ggf_cli.checkpoints.patience import patience
from ggf_cli.errors import CheckpointError, UsageError

# Seconds before the second, third and fourth attempt.
_PAUSES = (0.2, 0.4, 0.8)
# Seconds for which a hub that failed is not asked for files that are in the cache.
MEMORY_S = 30.0
_failed_at = -math.inf


def fetch_file(
    repo: str,
    file: str,
    *,
    revision: str | None = None,
    sha256: str | None = None,
    verify: bool = True,
    quiet: bool = False,
) -> Path:
    """Download a file into the hub's cache, unless it is there, and return its path.

    A cached file that has the given sha256, or that belongs to a given commit, is not downloaded
    again. For a branch, the newest version is downloaded; without a network, that of the cache is
    taken. If no connection is possible, the error comes within a few seconds.

    Args:
        repo: "OWNER/NAME".
        file: Its path in the repository.
        revision: A branch, tag or commit, whole or shortened; by default "main".
        sha256: The expected hash of the file. By default, the hash of the first download.
        verify: Whether to compare hashes at all.
        quiet: No progress bar and no messages of the library.

    Raises:
        CheckpointError: The file cannot be downloaded or stored, or its hash is wrong.
    """
    cached = cached_file(repo, file, revision=revision)
    if cached and verify and sha256 and file_sha256(cached) == sha256.lower():
        return cached
    if cached and is_commit(revision or MAIN):
        path = cached
    else:
        path = _download(repo, file, revision or MAIN, quiet, cached)
    if verify:
        check_hash(path, sha256, repo, file, revision or MAIN)
    return path


def fetch_if_there(
    repo: str, file: str, *, revision: str | None = None, quiet: bool = False
) -> Path | None:
    """Download an optional small file and return its path; None if the repository lacks it.

    Offline, a file that is not in the cache counts as absent. If the network fails, a file counts
    as absent only if the hub stated so before.

    Raises:
        CheckpointError: As `fetch_file`, if the file may exist.
    """
    revision = revision or MAIN
    if is_commit(revision) and known_absent(repo, file, revision):
        return None
    try:
        return fetch_file(repo, file, revision=revision, verify=False, quiet=quiet)
    except (MissingFile, OfflineMiss):
        return None
    except CheckpointError:
        if known_absent(repo, file, revision):
            return None
        raise


def reach(*, timeout_s: float) -> None:
    """Check that the hub answers; no token is sent.

    Raises:
        CheckpointError: It does not answer, or its address is not https.
    """
    from huggingface_hub import constants, get_session

    _check_address(constants.ENDPOINT)
    _check_requests()
    host = urlsplit(constants.ENDPOINT).hostname or "HF_ENDPOINT"
    try:
        check_connection(constants.ENDPOINT)
        with watched(get_session(), "anything", timeout_s):
            status = get_session().head(constants.ENDPOINT, timeout=timeout_s).status_code
    except CheckpointError:
        raise
    except Exception as error:
        raise CheckpointError(
            f"{host} cannot be reached: {reason_of(error)}", hint="check the network and the proxy"
        ) from error
    if status >= 500:
        raise CheckpointError(f"{host} answers HTTP {status}", hint="try again later")


def _download(repo: str, file: str, revision: str, quiet: bool, cached: Path | None) -> Path:
    attempts = None
    try:
        from huggingface_hub import constants, get_session, hf_hub_download

        _check_address(constants.ENDPOINT)
        if not constants.HF_HUB_OFFLINE:
            if cached and monotonic() < _failed_at + MEMORY_S:
                return cached
            check_connection(constants.ENDPOINT)
        _check_requests()
        what = f"{file} of {repo} from {urlsplit(constants.ENDPOINT).hostname}"
        attempts = Attempts(what, constants.HF_HUB_DOWNLOAD_TIMEOUT, constants.ENDPOINT)
        limits = watched(get_session(), what, patience(), attempts)
        with _silence(bars=quiet), limits, warnings.catch_warnings():
            # The library only warns that the disk is too small, and then fills the disk.
            warnings.filterwarnings("error", message="Not enough free disk space")
            return Path(
                _retry(
                    lambda: hf_hub_download(
                        repo, file, revision=revision, etag_timeout=attempts.silence_s
                    )
                )
            )
    except (Unreachable, Failing, TooSlow) as error:
        # As the library does, but it waits longer.
        if cached and not (attempts and attempts.transferring):
            _remember_failure()
            return cached
        if isinstance(error, Unreachable):
            raise hub_failure(error, repo, file, revision) from error
        raise
    except (CheckpointError, UsageError):
        raise
    except Exception as error:
        raise hub_failure(error, repo, file, revision) from error


def _remember_failure() -> None:
    """Take other files from the cache without a request for a while: each would wait as long."""
    global _failed_at
    _failed_at = monotonic()


def _check_address(url: str) -> None:
    """Refuse an address that is neither https nor on this machine.

    Without https, others on the network could read the token or replace the file.
    """
    address = urlsplit(url)
    host = address.hostname or ""
    loopback = host == "localhost" or host == "::1" or re.fullmatch(r"127(\.\d{1,3}){3}", host)
    if address.scheme != "https" and not (address.scheme == "http" and loopback):
        raise CheckpointError(
            f"requests to {host or 'HF_ENDPOINT'} would use {address.scheme or 'no protocol'},"
            " ggf downloads over https only",
            hint="set HF_ENDPOINT to an address that starts with https://",
        )


def _check_requests() -> None:
    """Make the library's client call `_check_address` before each request, redirects included."""
    from huggingface_hub import get_session

    # The client of `huggingface_hub` before 1.0 has no hooks.
    hooks = getattr(get_session(), "event_hooks", None)
    if hooks is not None and _check_request not in hooks["request"]:
        get_session().event_hooks = {**hooks, "request": [*hooks["request"], _check_request]}


def _check_request(request: Any) -> None:
    _check_address(str(request.url))


def _retry(call: Callable[[], str]) -> str:
    """Call a function, up to four times if it fails with an error that may be temporary."""
    for pause in _PAUSES:
        try:
            return call()
        except Exception as error:
            if not _is_worth_a_retry(error):
                raise
            time.sleep(pause)
    return call()


def _is_worth_a_retry(error: Exception) -> bool:
    """Whether an error may be temporary and the library has not repeated the request itself.

    The library repeats a failing look-up, and resumes a transfer that is cut off. It does neither
    when the answer to the transfer is 5xx, or the connection is reset, or closed in a look-up.
    """
    from huggingface_hub.errors import LocalEntryNotFoundError

    if isinstance(error, (LocalEntryNotFoundError, CheckpointError)):
        return False
    links = list(error_chain(error))
    reset = any(isinstance(link, ConnectionResetError) for link in links)
    closed = any(type(link).__name__ == "RemoteProtocolError" for link in links)
    return reset or closed or (http_status(error) or 0) >= 500


@contextmanager
def _silence(*, bars: bool) -> Iterator[None]:
    """Turn off the library's log messages, which repeat each failed attempt.

    Args:
        bars: Also turn off its progress bars and warnings.
    """
    from huggingface_hub.utils.tqdm import (
        are_progress_bars_disabled,
        disable_progress_bars,
        enable_progress_bars,
    )

    log = logging.getLogger("huggingface_hub")
    hide, level = bars and not are_progress_bars_disabled(), log.level
    with warnings.catch_warnings():
        if bars:
            warnings.simplefilter("ignore")
        if hide:
            disable_progress_bars()
        log.setLevel(logging.CRITICAL)
        try:
            yield
        finally:
            log.setLevel(level)
            if hide:
                enable_progress_bars()
