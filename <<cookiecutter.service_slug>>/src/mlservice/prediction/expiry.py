"""Ends each request at its deadline. One timer serves them all, since a timer each costs more.

The timer is set for the earliest deadline. A request that ends in time leaves its entry in the
heap. Such entries are removed when their deadline passes, or when they are most of the heap.
"""

from __future__ import annotations

import asyncio
import heapq
from itertools import count
from time import perf_counter

from mlservice.errors import DeadlineExceeded
from mlservice.prediction.pending import Pending

_PRUNE_FROM = 1024


class Expiry:
    """The deadlines of the requests under way; belongs to one event loop."""

    def __init__(self) -> None:
        """Begin without requests."""
        self._loop = asyncio.get_running_loop()
        self._heap: list[tuple[float, int, Pending]] = []
        self._numbers = count()
        self._timer: asyncio.TimerHandle | None = None
        self._due = 0.0
        self._prune_at = _PRUNE_FROM

    def watch(self, pending: Pending) -> None:
        """End ``pending`` with ``DeadlineExceeded`` if it has no outcome by its deadline."""
        deadline = pending.context.deadline
        heapq.heappush(self._heap, (deadline, next(self._numbers), pending))
        if self._timer is None or deadline < self._due:
            self._set_timer(deadline)
        if len(self._heap) > self._prune_at:
            self._prune()

    def close(self) -> None:
        """Stop the timer."""
        if self._timer is not None:
            self._timer.cancel()

    def _expire(self) -> None:
        self._timer = None
        now = perf_counter()
        heap = self._heap
        while heap and (heap[0][2].done or heap[0][0] <= now):
            pending = heapq.heappop(heap)[2]
            pending.finish(DeadlineExceeded("the request's time ran out"))
        if heap:
            self._set_timer(heap[0][0])

    def _set_timer(self, deadline: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._due = deadline
        self._timer = self._loop.call_later(max(0.0, deadline - perf_counter()), self._expire)

    def _prune(self) -> None:
        self._heap = [entry for entry in self._heap if not entry[2].done]
        heapq.heapify(self._heap)
        self._prune_at = max(_PRUNE_FROM, 2 * len(self._heap))
