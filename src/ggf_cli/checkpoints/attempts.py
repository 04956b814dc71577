"""End a download whose server fails again and again, or sends nothing.

The client of huggingface_hub repeats a failed look-up six times in 23 s, and waits as long as a
server asks for in `Retry-After`. Here the failures of one download are counted, over all its
requests: it ends after `MOST` in a row, or when `FAIL_S` have passed without an answer that helps.
A transfer that gets ahead starts the count again.
"""

from __future__ import annotations

import re
from time import monotonic
from typing import Any
from urllib.parse import urlsplit

from ggf_cli.checkpoints.hub_connection import check_connection
from ggf_cli.checkpoints.hub_errors import Unreachable, reason_of
from ggf_cli.errors import CheckpointError

# Failures in a row. The client pauses for 1 s after the first one, or the first two, then longer.
MOST = 4
# Seconds of failures in a row.
FAIL_S = 2.5
# Bytes that a transfer must get ahead: the client writes the content in parts of this size.
PROGRESS = 10 * 2**20
# Environment variable of huggingface_hub: the seconds to wait for the next byte.
SILENCE = "HF_HUB_DOWNLOAD_TIMEOUT"
_EXTRA = "/api/agent-harnesses"
LATER = "the server has a problem: run the same command again later"


class Failing(CheckpointError):
    """The server fails, sends nothing, or refuses because of too many requests."""


class Attempts:
    """The failures in a row of one download.

    Args:
        what: The name of the requested file and its server, for messages.
        silence_s: The seconds to wait for the next byte.
        server: The address of the hub, to which a connection was possible.

    Attributes:
        transferring: The content was requested, so the look-up has ended.
    """

    def __init__(self, what: str, silence_s: float, server: str) -> None:
        self._what, self.silence_s, self._read_s = what, silence_s, silence_s
        self.transferring = False
        self._failures, self._received = 0, 0
        self._started = self._since = monotonic()
        self._reached = {urlsplit(server)[:2]}

    def starts(self, method: str, url: str, read_s: float | None) -> float:
        """Record the start of a request, and return the seconds to wait for its next byte.

        Args:
            method: "GET" for content.
            url: The address.
            read_s: The seconds that the client would wait; None is for ever.

        Raises:
            Failing: No connection to its server is possible.
            OSError: It is a request for a list of AI agents, which the client makes once a day, and
                omits after an error. From a server that does not answer it would take 3 s.
        """
        address = urlsplit(url)
        if address.path.endswith(_EXTRA):
            raise OSError("not needed for a download")
        self._started = monotonic()
        self.transferring = self.transferring or method == "GET"
        if address[:2] not in self._reached:
            try:
                check_connection(url)
            except Unreachable as error:
                raise Failing(
                    f"cannot download {self._what}: it names the server {address.hostname},"
                    f" which cannot be reached: {reason_of(error)}",
                    hint="check the network, the firewall and the proxy",
                ) from error
            self._reached.add(address[:2])
        self._read_s = min(read_s or self.silence_s, self.silence_s)
        return self._read_s

    def received(self, size: int) -> None:
        """Record `size` bytes of content."""
        self._received += size
        if self._received >= PROGRESS:
            self._failures = 0

    def answered(self, response: Any) -> None:
        """Check the status and the type of an answer before its content is read.

        Args:
            response: An answer of httpx, or with the same attributes.

        Raises:
            Failing: The server asks for a pause, sends a web page, or failed too often.
        """
        status = int(response.status_code)
        if status == 429:
            raise self._busy(response.headers.get("Retry-After", ""))
        if status == 408 or status >= 500:
            self._failed(f"HTTP {status}", LATER)
        kind = response.headers.get("Content-Type", "")
        if status == 200 and kind.strip().lower().startswith("text/html"):
            raise Failing(
                f"cannot download {self._what}: it sends a web page instead of the file",
                hint="open any page in a browser: the network may ask for a login; then check the"
                " proxy and HF_ENDPOINT",
            )

    def broken(self, error: BaseException) -> None:
        """Record that a connection broke.

        Raises:
            Failing: No byte came in time, or this was one failure too many.
        """
        if type(error).__name__ == "ReadTimeout":
            raise Failing(
                f"cannot download {self._what}: the server sent no byte for {self._read_s:g} s",
                hint=f"try again later, or set {SILENCE} to a larger number of seconds",
            ) from error
        self._failed(reason_of(error), "check the network, then run the same command again")

    def _failed(self, reason: str, hint: str) -> None:
        """Count a failure; raise `Failing` if it was one too many."""
        if not self._failures:
            self._since = self._started
        self._failures += 1
        late = not self._received and monotonic() - self._since > FAIL_S
        self._received = 0
        if late or self._failures >= MOST:
            raise Failing(f"cannot download {self._what}: {reason}", hint=hint)

    def _busy(self, pause: str) -> Failing:
        """The error for HTTP 429, with the seconds to wait if the server states them."""
        wait = f"wait {int(pause)} s" if re.fullmatch("[0-9]{1,6}", pause.strip()) else "wait"
        return Failing(
            f"cannot download {self._what}: too many requests from this address (HTTP 429)",
            hint=f"{wait}, then run the same command again; with HF_TOKEN the limit is higher",
        )
