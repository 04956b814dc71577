"""Call a function on a background thread, in order, with a bounded queue."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from queue import Queue
from threading import Thread
from typing import Any


class Background:
    """A thread that calls a function once for each `put`, in order. Used by one other thread.

    After an error no further call is made, and queued calls are dropped. The next method call
    raises the error, once.

    Args:
        work: The function.
        room: The size of the queue; `put` blocks while it is full.
    """

    def __init__(self, work: Callable[..., None], room: int) -> None:
        self._work = work
        self._queue: Queue[tuple[Any, ...] | None] = Queue(room)
        self._error: Exception | None = None
        self._failed = False
        self._thread = Thread(target=self._run, name="ggf-output", daemon=True)
        self._thread.start()

    def put(self, *arguments: Any) -> None:
        """Queue a call of the function with these arguments."""
        self.check()
        self._queue.put(arguments)

    def check(self) -> None:
        """Raise the error of the function, if there is one that has not been raised."""
        error, self._error = self._error, None
        if error is not None:
            raise error

    def close(self) -> None:
        """Wait until all queued calls are done, and end the thread."""
        self._queue.put(None)
        self._thread.join()
        self.check()

    def _run(self) -> None:
        while (arguments := self._queue.get()) is not None:
            if not self._failed:
                try:
                    self._work(*arguments)
                # `check` raises it in the other thread.
                except Exception as error:  # noqa: BLE001
                    self._error, self._failed = error, True


@contextmanager
def background(work: Callable[..., None], room: int) -> Iterator[Background]:
    """A `Background`, closed at the end. An error of the block precedes one of the function."""
    queue = Background(work, room)
    try:
        yield queue
    except BaseException:
        with suppress(Exception):
            queue.close()
        raise
    queue.close()
