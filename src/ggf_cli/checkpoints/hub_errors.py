"""Translate an error of huggingface_hub into a `CheckpointError` with a message and a hint.

A message never repeats the text of the library's error, which may contain a token or a signed
address.
"""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import urlsplit

from ggf_cli.errors import CheckpointError

# Errors of the client that have no reason of the operating system -> their reason.
_REASONS = {
    "RemoteProtocolError": "the server closes the connection without an answer",
    "TooManyRedirects": "the server redirects in a loop",
    "ProxyError": "the proxy refuses the connection",
    "ConnectTimeout": "the server does not answer",
    "ReadTimeout": "the server does not answer",
}


class MissingFile(CheckpointError):
    """The repository exists and does not have the file."""


class OfflineMiss(CheckpointError):
    """The file is not in the cache, and HF_HUB_OFFLINE forbids to download it."""


class Unreachable(Exception):
    """No connection to the server; the cause is the `OSError` with the reason."""


def hub_failure(error: Exception, repo: str, file: str, revision: str) -> CheckpointError:
    """Translate an error of the library into a message and a hint for the user."""
    from huggingface_hub import constants, errors

    cause: BaseException = error
    # Its cause is the reason why the look-up failed.
    if isinstance(error, errors.LocalEntryNotFoundError) and error.__cause__:
        cause = error.__cause__
    what, host = f"{file} of {repo}", urlsplit(constants.ENDPOINT).hostname or "HF_ENDPOINT"
    cache, status = constants.HF_HUB_CACHE, http_status(cause)

    if isinstance(cause, errors.OfflineModeIsEnabled):
        return OfflineMiss(
            f"{what} is not in {cache}, and HF_HUB_OFFLINE forbids to download it",
            hint="unset HF_HUB_OFFLINE, or run the command once with a network",
        )
    if isinstance(cause, errors.GatedRepoError):
        message = f"{host} requires that you accept the terms of {what} (HTTP {status})"
        hint = f"accept them at {host}/{repo}, then set HF_TOKEN or run: hf auth login"
    elif isinstance(cause, errors.RevisionNotFoundError):
        message = f"{repo} at {host} has no revision {revision!r}"
        hint = f"see {host}/{repo}/commits/main"
    elif isinstance(cause, errors.RepositoryNotFoundError):
        message = f"{host} has no repository {repo}, or it is private"
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
        message = f"{host} does not answer like a Hugging Face hub to the request for {what}"
        hint = "check HF_ENDPOINT and the proxy"
    elif isinstance(cause, Warning) or (isinstance(cause, OSError) and cause.errno):
        reason = "not enough space" if isinstance(cause, Warning) else reason_of(cause)
        message = f"cannot store {what} in {cache}: {reason}"
        hint = f"free some space in {cache}, or set HF_HOME to a folder elsewhere"
    else:
        message = f"cannot download {what} from {host}: {reason_of(cause)}"
        hint = "check the network, then run the same command again"
        if isinstance(cause, Unreachable):
            hint += "; ggf list-models --here lists the models that need no network"
    return CheckpointError(message, hint=hint)


def http_status(error: BaseException) -> int | None:
    """The HTTP status of the answer that caused an error, if there was one."""
    status = getattr(getattr(error, "response", None), "status_code", None)
    return status if isinstance(status, int) else None


def reason_of(error: BaseException) -> str:
    """The reason for an error in a few words, without the text of the error."""
    if status := http_status(error):
        return f"HTTP {status}"
    words = (link.strerror for link in error_chain(error) if isinstance(link, OSError))
    known = (_REASONS.get(type(link).__name__) for link in error_chain(error))
    return next(filter(None, (*words, *known)), type(error).__name__)


def error_chain(error: BaseException | None) -> Iterator[BaseException]:
    """An error and its causes."""
    while error:
        yield error
        error = error.__cause__ or error.__context__
