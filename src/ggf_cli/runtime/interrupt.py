"""Handle Ctrl-C and SIGTERM at a safe moment."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def graceful_interrupt(*, insist: bool = True) -> Iterator[Callable[[], bool]]:
    """Within this context the first Ctrl-C or SIGTERM only sets a flag.

    Args:
        insist: A second Ctrl-C interrupts at once. Under a launcher this must be False: it forwards
            the signal that the terminal has already sent to all processes.

    Yields:
        A function that returns whether a signal has arrived.
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


@contextmanager
def interruptible() -> Iterator[Callable[[], bool]]:
    """`graceful_interrupt` in the main thread, the only one that can handle signals."""
    if threading.current_thread() is threading.main_thread():
        with graceful_interrupt() as stop:
            yield stop
    else:
        yield lambda: False
