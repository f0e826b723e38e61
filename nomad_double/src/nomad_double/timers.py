"""Calls functions now or at a moment, one after the other, in one thread.

One thread keeps the scheduler and the deployment watcher from running at the same time.
"""

from __future__ import annotations

import heapq
import itertools
import logging
import threading
import time
from collections.abc import Callable

log = logging.getLogger("nomad_double")
Call = Callable[[], None]


class Timers:
    """A thread that calls what it is given. A call that fails is logged and forgotten."""

    def __init__(self, name: str) -> None:
        """Start the thread."""
        self._condition = threading.Condition()
        self._heap: list[tuple[float, int, Call]] = []
        self._numbers = itertools.count()
        self._closed = False
        self._thread = threading.Thread(target=self._run, daemon=True, name=name)
        self._thread.start()

    def soon(self, call: Call) -> None:
        """Call after those that are already due."""
        self.at(time.time_ns(), call)

    def at(self, moment: int, call: Call) -> None:
        """Call at ``moment`` (ns since the epoch)."""
        with self._condition:
            heapq.heappush(self._heap, (moment / 1e9, next(self._numbers), call))
            self._condition.notify()

    def close(self) -> None:
        """Drop the calls that are left, and end the thread."""
        with self._condition:
            self._closed = True
            self._condition.notify()
        if threading.current_thread() is not self._thread:
            self._thread.join(5)

    def _run(self) -> None:
        while True:
            with self._condition:
                while not self._closed and (not self._heap or self._heap[0][0] > time.time()):
                    left = self._heap[0][0] - time.time() if self._heap else None
                    self._condition.wait(left if left is None else max(0.0, left))
                if self._closed:
                    return
                call = heapq.heappop(self._heap)[2]
            try:
                call()
            except Exception:
                log.exception("%s failed", call)
