"""Ctrl-C, and a scheduler's SIGTERM, at a safe moment."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def graceful_interrupt(*, insist: bool = True) -> Iterator[Callable[[], bool]]:
    """Within this context the first Ctrl-C or SIGTERM only sets a flag.

    Args:
        insist: A second Ctrl-C interrupts at once. Not so under a launcher, which passes on the one that the terminal has sent to
            all processes already.

    Yields:
        A function that tells whether either has come.
    """
    pressed = False

    def remember(number: int, frame: FrameType | None) -> None:
        nonlocal pressed
        pressed = True
        if insist:
            signal.signal(signal.SIGINT, signal.default_int_handler)

    previous = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    for number in previous:
        signal.signal(number, remember)
    try:
        yield lambda: pressed
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
