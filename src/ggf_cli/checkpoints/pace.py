"""Give up on a server that sends a byte now and then.

The client's own timeouts end a wait for the next byte, so that a server which sends one every few seconds can keep it for days, in the
headers of an answer as well as in its content. Here the time that is spent waiting counts: content must come at `RATE` at least,
headers within `patience`. This module does not import the client: it is handed one, of httpx or its like.
"""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from threading import TIMEOUT_MAX, Timer
from time import monotonic
from typing import Any

from ggf_cli.errors import CheckpointError, UsageError

PATIENCE = "GGF_DOWNLOAD_PATIENCE"  # seconds, of the environment
PATIENCE_S = 30.0
RATE = 1000.0  # bytes a second


def patience() -> float:
    """Seconds to wait: GGF_DOWNLOAD_PATIENCE, or 30.

    Raises:
        UsageError: That is no number of seconds.
    """
    text = os.environ.get(PATIENCE) or str(PATIENCE_S)
    with suppress(ValueError):
        if (seconds := float(text)) > 0:
            return seconds
    raise UsageError(f"{PATIENCE} is {text!r}, it must be a number of seconds, or inf")


class TooSlow(CheckpointError):
    """The server sends too slowly."""


@contextmanager
def watched(client: Any, what: str, patience_s: float) -> Iterator[None]:
    """Watch the answers that a client gets while the context lasts.

    Args:
        client: Of httpx, or with the same event hooks; any other one is not watched.
        what: What is asked for, for the message.
        patience_s: Seconds of waiting.

    Raises:
        TooSlow: An answer comes too slowly; whatever the client makes of that.
    """
    hooks = getattr(client, "event_hooks", None)
    if hooks is None:
        yield
        return
    pace = _Pace(what, patience_s)
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
    """The time and the bytes of one download, over all its requests."""

    def __init__(self, what: str, patience_s: float) -> None:
        self.slow = False
        self._what, self._patience_s = what, patience_s
        self._waited, self._bytes = 0.0, 0
        self._timer: Timer | None = None
        self._connections: list[Any] = []

    def error(self) -> TooSlow:
        amount = (
            f"less than {RATE * self._patience_s:,.0f} bytes in {self._patience_s:g} s of waiting"
        )
        return TooSlow(
            f"cannot download {self._what}: the server sends too slowly, {amount}",
            hint=f"try again later, or set {PATIENCE} to more seconds",
        )

    def on_request(self, request: Any) -> None:
        """A request is about to be sent."""
        if self.slow:  # the client tries again
            raise self.error()
        request.extensions = {**request.extensions, "trace": self._trace}

    def on_response(self, response: Any) -> None:
        """The headers of an answer are there."""
        client = sys.modules[type(response).__module__.partition(".")[0]]
        response.stream = _paced(response.stream, self, client.SyncByteStream)

    def stop(self) -> None:
        """Headers are waited for no longer."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _trace(self, event: str, info: Any) -> None:
        """What httpcore tells of a request: "connection.connect_tcp.complete" and so on."""
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

    def _give_up(self) -> None:
        """Wake the client, which waits for headers."""
        self.slow = True
        for connection in self._connections:
            with suppress(Exception):  # closed before
                socket.socket.shutdown(connection.get_extra_info("socket"), socket.SHUT_RDWR)

    def count(self, size: int, seconds: float) -> None:
        """So many bytes of content have come, after so much waiting."""
        self._waited += seconds
        self._bytes += size
        if self._waited >= self._patience_s:
            if self._bytes < RATE * self._patience_s:
                self.slow = True
                raise self.error()
            self._waited, self._bytes = 0.0, 0


def _paced(stream: Any, pace: _Pace, base: type) -> Any:
    """The content of an answer, whose bytes are counted as they come."""

    def chunks(_: Any) -> Iterator[bytes]:
        parts, start = iter(stream), monotonic()
        for part in parts:
            pace.count(len(part), monotonic() - start)
            yield part
            start = monotonic()  # what is done with them takes its own time

    return type("Paced", (base,), {"__iter__": chunks, "close": lambda _: stream.close()})()
