"""Turns the requests of one moment into one call of the worker.

There is no waiting window. A batch leaves as soon as the worker can take one, so a lone
request goes at once and a crowd shares its calls. Every row keeps its own deadline and its own
future: a row that fails, expires or is given up leaves the others alone. A row that would wait
longer than it may is refused at once, so that a crowd gets as many answers as the workers can
give instead of none in time.
"""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import NamedTuple

from mlservice.errors import RequestRefused, Unavailable
from mlservice.observe import metrics
from mlservice.protocol.packing import Status


@dataclass(frozen=True)
class Reply:
    """A worker's answer: a score and a status (``Status``) for each row sent."""

    scores: Sequence[float]
    statuses: bytes
    model_version: str


class Score(NamedTuple):
    """One row's answer, and the seconds it waited to be sent and then for the worker."""

    value: float
    model_version: str
    queued: float
    worked: float


@dataclass(slots=True, eq=False)
class _Entry:
    row: bytes
    entered: float
    deadline: float
    future: asyncio.Future[Score]


_WEIGHT = 0.2
"""That of the newest batch in the mean time of a batch."""

Send = Callable[[Sequence[bytes], Sequence[int], float], Awaitable[Reply]]


class Batcher:
    """Collects rows and sends them in batches; belongs to one event loop."""

    def __init__(
        self,
        send: Send,
        *,
        max_rows: int,
        max_queue: int,
        max_in_flight: int | Callable[[], int] = 2,
    ) -> None:
        """Send batches by ``send(rows, timeouts in ms, timeout in s)``, with these bounds.

        ``max_in_flight`` of 2 lets the worker find the next batch when one is done; a function
        gives the number for as many workers as there are at the moment.
        """
        # Python 3.11 asks the system for its process id each time that the loop is asked for.
        self._loop = asyncio.get_running_loop()
        self._send = send
        self._max_rows = max_rows
        self._max_queue = max_queue
        self._max_in_flight = max_in_flight if callable(max_in_flight) else lambda: max_in_flight
        self._queue: deque[_Entry] = deque()
        self._in_flight: set[asyncio.Task[None]] = set()
        self._batch_seconds = 0.0
        self._due = False

    async def submit(self, row: bytes, deadline: float) -> Score:
        """The score of ``row``, before ``deadline`` (by ``perf_counter``, in seconds).

        Raises ``Unavailable`` where too many rows wait, ``RequestRefused`` with status 504 past
        the deadline and 500 where the model has no score for this row.
        """
        now = perf_counter()
        left = deadline - now
        if left <= 0:
            raise _expired()
        self._shed(left)
        future: asyncio.Future[Score] = self._loop.create_future()
        timer = self._loop.call_later(left, _expire, future)
        self._queue.append(_Entry(row, now, deadline, future))
        self._plan()
        try:
            return await future
        finally:
            timer.cancel()

    def wake(self) -> None:
        """Send what waits, now that more batches may be in flight."""
        self._plan()

    async def drain(self) -> None:
        """Wait until every batch that has left is answered."""
        while self._in_flight:
            await asyncio.wait(self._in_flight)

    def _shed(self, left: float) -> None:
        """Refuse a row with ``left`` seconds where the queue is full or too slow for it."""
        waiting = len(self._queue)
        if waiting >= self._max_queue:
            raise _overloaded(f"{waiting} requests wait already", self._batch_seconds)
        flights = len(self._in_flight)
        if waiting and flights >= self._max_in_flight():
            wait = self._batch_seconds * (1 + (waiting // self._max_rows + 1) / flights)
            if wait > left:
                raise _overloaded(f"{waiting} requests wait, for {wait:.2g} s more", wait)

    def _plan(self) -> None:
        """Send at the end of this turn of the loop, so that its requests go together."""
        if not self._due and len(self._in_flight) < self._max_in_flight():
            self._due = True
            self._loop.call_soon(self._dispatch)

    def _dispatch(self) -> None:
        self._due = False
        while self._queue and len(self._in_flight) < self._max_in_flight():
            batch = self._take()
            if batch:
                task = asyncio.create_task(self._run(batch))
                self._in_flight.add(task)
                task.add_done_callback(self._finished)

    def _take(self) -> list[_Entry]:
        """The next rows whose callers still wait."""
        batch: list[_Entry] = []
        while self._queue and len(batch) < self._max_rows:
            entry = self._queue.popleft()
            if not entry.future.done():
                batch.append(entry)
        return batch

    async def _run(self, batch: list[_Entry]) -> None:
        sent = perf_counter()
        timeouts = [max(0, int((entry.deadline - sent) * 1000)) for entry in batch]
        try:
            reply = await self._send([entry.row for entry in batch], timeouts, max(timeouts) / 1000)
            if not len(batch) == len(reply.scores) == len(reply.statuses):
                raise RequestRefused(
                    500,
                    "prediction_failed",
                    f"the worker sent {len(reply.scores)} scores for {len(batch)} rows",
                )
        except Exception as error:  # noqa: BLE001  # whatever it is, every caller must hear of it
            for entry in batch:
                _fail(entry.future, error)
        else:
            worked = perf_counter() - sent
            self._batch_seconds += _WEIGHT * (worked - self._batch_seconds)
            _settle(batch, reply, sent, worked)

    def _finished(self, task: asyncio.Task[None]) -> None:
        self._in_flight.discard(task)
        self._dispatch()


def _settle(batch: Sequence[_Entry], reply: Reply, sent: float, worked: float) -> None:
    version = reply.model_version
    for entry, value, status in zip(batch, reply.scores, reply.statuses, strict=True):
        if status == Status.OK:
            if not entry.future.done():
                queued = sent - entry.entered
                entry.future.set_result(Score(value, version, queued, worked))
        elif status == Status.EXPIRED:
            _expire(entry.future)
        else:
            _fail(entry.future, _no_score(Status(status), version))


def _no_score(status: Status, version: str) -> RequestRefused:
    reason = "is not a finite number" if status is Status.NOT_FINITE else "could not be computed"
    return RequestRefused(500, "prediction_failed", f"the score of model {version} {reason}")


def _expire(future: asyncio.Future[Score]) -> None:
    _fail(future, _expired())


def _expired() -> RequestRefused:
    return RequestRefused(504, "deadline_exceeded", "the request's time ran out")


def _overloaded(words: str, seconds: float) -> Unavailable:
    metrics.SHED.inc()
    return Unavailable(words, code="overloaded", retry_after=max(1, math.ceil(seconds)))


def _fail(future: asyncio.Future[Score], error: Exception) -> None:
    if not future.done():
        future.set_exception(error)
