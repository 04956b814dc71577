"""Stop a download from a server that sends too slowly, nothing at all, or errors only.

The timeouts of the HTTP client only limit the wait for the next byte. A server that sends a byte
every few seconds, in the headers or in the content, can keep the client waiting for days. Here the
total time of waiting is limited: content must come at `RATE` or faster, headers within `patience`.
`attempts` ends a download without any byte, and one that fails again and again. This module does
not import a client: the caller passes one, of httpx or with the same hooks.
"""

from __future__ import annotations

import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from threading import TIMEOUT_MAX, Timer
from time import monotonic
from typing import Any

from ggf_cli.checkpoints.attempts import Attempts
from ggf_cli.checkpoints.hub_errors import Unreachable
from ggf_cli.checkpoints.patience import PATIENCE, connect_s
from ggf_cli.errors import CheckpointError

# Bytes per second.
RATE = 1000.0


class TooSlow(CheckpointError):
    """The server sends too slowly."""


@contextmanager
def watched(
    client: Any, what: str, patience_s: float, attempts: Attempts | None = None
) -> Iterator[None]:
    """Limit the time that a client waits for its answers inside the context.

    Args:
        client: A client of httpx, or with the same event hooks. Another client has no limit.
        what: The name of the requested object and its server, for messages.
        patience_s: The seconds to wait for headers, and for content at `RATE`.
        attempts: Ends a download without a byte, or with too many failures.

    Raises:
        TooSlow: An answer comes too slowly. Any error that the client raises then is its cause.
        Failing: The server sends no byte, or fails too often.
    """
    hooks = getattr(client, "event_hooks", None)
    if hooks is None:
        yield
        return
    pace = _Pace(what, patience_s, attempts)
    more = {"request": pace.on_request, "response": pace.on_response}
    client.event_hooks = {kind: [*hooks[kind], hook] for kind, hook in more.items()}
    try:
        yield
    except TooSlow:
        raise
    except Exception as error:
        if pace.slow:
            raise pace.error() from error
        raise
    finally:
        pace.stop()
        client.event_hooks = hooks


class _Pace:
    """The waiting time and the bytes of one download, over all its requests."""

    def __init__(self, what: str, patience_s: float, attempts: Attempts | None = None) -> None:
        self.slow = self._answered = False
        self._attempts = attempts
        self._what, self._patience_s = what, patience_s
        self._connect_s = min(connect_s(), TIMEOUT_MAX)
        self._waited, self._bytes = 0.0, 0
        self._timer: Timer | None = None
        self._connections: list[Any] = []

    def error(self) -> TooSlow:
        """The error that states the rate of the server."""
        amount = (
            f"less than {RATE * self._patience_s:,.0f} bytes in {self._patience_s:g} s of waiting"
        )
        return TooSlow(
            f"cannot download {self._what}: the server sends too slowly, {amount}",
            hint=f"try again later, or set {PATIENCE} to a larger number of seconds",
        )

    def on_request(self, request: Any) -> None:
        """Trace a request before it is sent."""
        # The client retries by itself after an error.
        if self.slow:
            raise self.error()
        timeouts = {**request.extensions.get("timeout", {}), "connect": self._connect_s}
        if self._attempts:
            url, read_s = str(request.url), timeouts.get("read")
            timeouts["read"] = self._attempts.starts(request.method, url, read_s)
        request.extensions = {**request.extensions, "timeout": timeouts, "trace": self._trace}

    def on_response(self, response: Any) -> None:
        """Count the content of an answer whose headers have arrived."""
        self._answered = True
        if self._attempts:
            self._attempts.answered(response)
        client = sys.modules[type(response).__module__.partition(".")[0]]
        response.stream = _paced(response.stream, self, client.SyncByteStream)

    def stop(self) -> None:
        """Stop the timer for headers."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _trace(self, event: str, info: Any) -> None:
        """Handle an event of httpcore, like "connection.connect_tcp.complete"."""
        name = event.partition(".")[2]
        if name in ("connect_tcp.complete", "start_tls.complete"):
            self._connections.append(info["return_value"])
        if name in ("start_tls.started", "send_request_headers.started"):
            self.stop()
            self._timer = Timer(min(self._patience_s, TIMEOUT_MAX), self._give_up)
            self._timer.daemon = True
            self._timer.start()
        elif name in ("receive_response_headers.complete", "receive_response_headers.failed"):
            self.stop()
        elif name == "start_tls.failed" and not self._answered:
            # The client would try again for 23 s. A certificate does not get better with time.
            raise Unreachable from info["exception"]
        error = info.get("exception")
        # Not an interruption by the user.
        if isinstance(error, Exception) and self._attempts and not self.slow:
            self._attempts.broken(error)

    def _give_up(self) -> None:
        """Close the connections, so that the client stops waiting for headers."""
        self.slow = True
        for connection in self._connections:
            # It may be closed already.
            with suppress(Exception):
                socket.socket.shutdown(connection.get_extra_info("socket"), socket.SHUT_RDWR)

    def count(self, size: int, seconds: float) -> None:
        """Add `size` bytes of content that came after `seconds` of waiting."""
        if self._attempts:
            self._attempts.received(size)
        self._waited += seconds
        self._bytes += size
        if self._waited >= self._patience_s:
            if self._bytes < RATE * self._patience_s:
                self.slow = True
                raise self.error()
            self._waited, self._bytes = 0.0, 0


def _paced(stream: Any, pace: _Pace, base: type) -> Any:
    """Wrap the content of an answer, and count its bytes as they arrive."""

    def chunks(_: Any) -> Iterator[bytes]:
        parts, start = iter(stream), monotonic()
        for part in parts:
            pace.count(len(part), monotonic() - start)
            yield part
            # The time in which the caller uses the bytes does not count.
            start = monotonic()

    return type("Paced", (base,), {"__iter__": chunks, "close": lambda _: stream.close()})()
