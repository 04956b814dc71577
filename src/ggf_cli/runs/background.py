"""Work that sampling need not wait for: done in order, on a thread of its own, with so much of it waiting at most."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from queue import Queue
from threading import Thread
from typing import Any


class Background:
    """Calls a function on another thread, in the order in which it is asked to. Used by one thread.

    After an error it does nothing more; what waits then is dropped. The error comes out of the next call of a method here, once.

    Args:
        work: The function.
        room: How many calls may wait; who asks for more waits too.
    """

    def __init__(self, work: Callable[..., None], room: int) -> None:
        self._work = work
        self._queue: Queue[tuple[Any, ...] | None] = Queue(room)
        self._error: Exception | None = None
        self._failed = False
        self._thread = Thread(target=self._run, name="ggf-output", daemon=True)
        self._thread.start()

    def put(self, *arguments: Any) -> None:
        """Have the function called with these, soon."""
        self.check()
        self._queue.put(arguments)

    def check(self) -> None:
        """Raise what has gone wrong since the last time."""
        error, self._error = self._error, None
        if error is not None:
            raise error

    def close(self) -> None:
        """Wait until everything is done."""
        self._queue.put(None)
        self._thread.join()
        self.check()

    def _run(self) -> None:
        while (arguments := self._queue.get()) is not None:
            if not self._failed:
                try:
                    self._work(*arguments)
                except Exception as error:  # noqa: BLE001 - it is raised where it is waited for
                    self._error, self._failed = error, True


@contextmanager
def background(work: Callable[..., None], room: int) -> Iterator[Background]:
    """A `Background` that is closed at the end, whatever that is; an error of the block itself goes before one of the work."""
    queue = Background(work, room)
    try:
        yield queue
    except BaseException:
        with suppress(Exception):  # the first error is the one to tell
            queue.close()
        raise
    queue.close()
