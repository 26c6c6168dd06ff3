"""What takes its time beside the loop of a run: packing what is sent, fetching what came."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable
from typing import Any, Final

from xbuild.base.errors import MachineError, XbuildError

AT_ONCE: Final = 4
"""So many at once: most of the time a shared store is waited for; what is packed takes turns for the processor."""
_PATIENCE: Final = 5.0
"""Seconds that what has begun has to end."""


class Aside:
    """A few threads, which are started when there is work.

    What they are given is done, or not at all, in whatever order; `close` lets what has not begun be.
    """

    def __init__(self) -> None:
        self._todo: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._threads: list[threading.Thread] = []
        self._lock = threading.Lock()
        self._left = 0
        self.closed = False

    def do(self, work: Callable[[], Any], done: Callable[[Any], None]) -> None:
        """Have `work` done. done: is called in its thread with what it gave, or with the XbuildError that it raised."""

        def whole() -> None:
            if self.closed:
                return
            try:
                found = work()
            except XbuildError as error:
                found = error
            except OSError as error:
                found = MachineError(str(error), hint="it happened on this machine, not on the cluster's")
            except BaseException as error:
                # The loop raises it: it is a bug.
                found = error
            done(found)

        with self._lock:
            self._left += 1
        self._todo.put(whole)
        if len(self._threads) < min(AT_ONCE, self._left):
            # A daemon: nothing waits for a store that does not answer.
            thread = threading.Thread(target=self._work, daemon=True)
            self._threads.append(thread)
            thread.start()

    def _work(self) -> None:
        while True:
            self._todo.get()()
            with self._lock:
                self._left -= 1

    def close(self) -> None:
        """Begin nothing more; what has begun has a moment to end."""
        self.closed = True
        end = time.monotonic() + _PATIENCE
        while self._left and time.monotonic() < end:
            time.sleep(0.02)
