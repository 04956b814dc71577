"""Check within a few seconds that a server, or the proxy before it, accepts a connection.

The client of huggingface_hub looks up the name of the server without a time limit, waits for each
of its addresses in turn, and repeats all of this five times. Without a network that takes from 23 s
to minutes. Here all addresses are tried at once, before the client is used.
"""

from __future__ import annotations

import errno
import socket
from collections.abc import Callable
from queue import Empty, SimpleQueue
from threading import TIMEOUT_MAX, Thread
from time import monotonic
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

from ggf_cli.checkpoints.hub_errors import Unreachable
from ggf_cli.checkpoints.patience import connect_s

# Addresses, each with its family; or an error.
_Result = list[tuple[int, tuple[object, ...]]] | OSError


def check_connection(url: str) -> None:
    """Connect to the server of an address, or to the proxy that the environment gives for it.

    Args:
        url: An address with http or https.

    Raises:
        Unreachable: No connection is possible, or there is none after `patience.connect_s`.
    """
    host, port, what = _next_hop(url)
    try:
        _connect(host, port, connect_s())
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise Unreachable from OSError(error.errno or errno.EIO, f"{what}{reason}")


def _next_hop(url: str) -> tuple[str, int, str]:
    """Host and port to which the client connects, and a prefix for messages about a proxy."""
    address = urlsplit(url)
    host, port = address.hostname or "", address.port or (443 if address.scheme == "https" else 80)
    proxies = getproxies()
    proxy = proxies.get(address.scheme) or proxies.get("all")
    if not proxy or proxy_bypass(host):
        return host, port, ""
    through = urlsplit(proxy if "://" in proxy else f"http://{proxy}")
    host, port = through.hostname or "", through.port or (443 if through.scheme == "https" else 80)
    # Not the whole address, which may contain a password.
    return host, port, f"the proxy {host}:{port}: "


def _connect(host: str, port: int, seconds: float) -> None:
    """Connect to any address of a host; the first error if every address fails."""
    end = monotonic() + seconds
    results: SimpleQueue[_Result] = SimpleQueue()
    _start(_look_up, host, port, results)
    found = _take(results, end, seconds)
    if isinstance(found, OSError):
        raise found
    for address in found:
        _start(_try, address, seconds, results)
    errors: list[OSError] = []
    for _ in found:
        error = _take(results, end, seconds)
        if not isinstance(error, OSError):
            return
        errors.append(error)
    raise errors[0] if errors else OSError(errno.EHOSTUNREACH, "the name has no address")


def _start(work: Callable[..., None], *arguments: object) -> None:
    """Start a thread that does not keep the process alive: a look-up cannot be interrupted."""
    Thread(target=work, args=arguments, daemon=True).start()


def _look_up(host: str, port: int, results: SimpleQueue[_Result]) -> None:
    """Put the addresses of a host, or the error."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except OSError as error:
        results.put(error)
    # A name that cannot be encoded.
    except ValueError:
        results.put(OSError(errno.EINVAL, "not a valid name"))
    else:
        results.put([(family, address) for family, _, _, _, address in found])


def _try(
    address: tuple[int, tuple[object, ...]], seconds: float, results: SimpleQueue[_Result]
) -> None:
    """Connect to one address, and put an empty list, or the error."""
    family, place = address
    try:
        with socket.socket(family, socket.SOCK_STREAM) as connection:
            connection.settimeout(min(seconds, TIMEOUT_MAX))
            connection.connect(place)
    except OSError as error:
        results.put(error)
    else:
        results.put([])


def _take(results: SimpleQueue[_Result], end: float, seconds: float) -> _Result:
    """The next result; a timeout counts as an error without other reason."""
    try:
        result = results.get(timeout=min(max(end - monotonic(), 0), TIMEOUT_MAX))
    except Empty:
        result = TimeoutError()
    if isinstance(result, TimeoutError) and result.strerror is None:
        return OSError(errno.ETIMEDOUT, f"no answer in {seconds:g} s")
    return result
