"""Joins requests into batches, because a call for many rows costs little more than one for a row.

There is no waiting window. A batch leaves as soon as a worker can take one, so a lone request
leaves at once, and many requests share a call. A request that fails, expires or is abandoned does
not affect the others of its batch. A request that would wait longer than its deadline is refused at
once. Under overload, the workers then answer as many requests in time as they can, instead of all
of them too late.
"""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from time import perf_counter

from mlservice.errors import DeadlineExceeded, Overloaded, PredictionFailed, RequestError
from mlservice.observe import metrics
from mlservice.prediction.pending import Pending, Scores
from mlservice.protocol.packing import Status

_SMOOTHING = 0.2
"""Weight of the newest batch in the moving average of a batch's time."""


@dataclass(frozen=True, slots=True)
class Batch:
    """The requests of one call, their packed rows and the deadline of each row."""

    requests: Sequence[Pending]
    rows: bytes
    deadlines: Sequence[float]

    @classmethod
    def of(cls, requests: Sequence[Pending]) -> Batch:
        """Make a batch of these requests, in their order."""
        deadlines: list[float] = []
        for pending in requests:
            deadlines += [pending.context.deadline] * pending.row_count
        return cls(requests, b"".join([pending.rows for pending in requests]), deadlines)


@dataclass(frozen=True, slots=True)
class BatchReply:
    """A worker's reply: a score and a status (``Status``) for each row sent."""

    scores: Sequence[float]
    statuses: bytes
    model_version: str


Send = Callable[[Batch], Awaitable[BatchReply]]
Scored = Callable[[Sequence[Pending]], None]
Failed = Callable[[Sequence[Pending], Exception], None]


class Batcher:
    """Collects requests and sends them in batches; belongs to one event loop."""

    def __init__(
        self,
        send: Send,
        scored: Scored,
        failed: Failed,
        *,
        max_rows: int,
        max_queue: int,
        max_in_flight: Callable[[], int],
    ) -> None:
        """Send batches by ``send``, then call ``scored`` or ``failed`` with their requests.

        ``max_in_flight`` returns the number of batches that may be in flight now: 2 for each worker
        lets it start the next batch as soon as one is done.
        """
        # Python 3.11 makes a system call (getpid) for each `get_running_loop`.
        self._loop = asyncio.get_running_loop()
        self._send = send
        self._scored = scored
        self._failed = failed
        self._max_rows = max_rows
        self._max_queue = max_queue
        self._max_in_flight = max_in_flight
        self._queue: deque[Pending] = deque()
        self._in_flight: set[asyncio.Task[None]] = set()
        self._batch_seconds = 0.0
        self._scheduled = False

    def add(self, requests: Iterable[Pending]) -> None:
        """Queue requests; a request that cannot be answered in time fails with ``Overloaded``."""
        now = perf_counter()
        for pending in requests:
            if error := self._reason_to_refuse(pending.context.deadline - now):
                pending.finish(error)
                continue
            pending.entered_at = now
            self._queue.append(pending)
        self.wake()

    def wake(self) -> None:
        """Send what may be sent, at the end of this turn of the event loop."""
        if self._queue and not self._scheduled and len(self._in_flight) < self._max_in_flight():
            self._scheduled = True
            self._loop.call_soon(self._dispatch)

    async def drain(self) -> None:
        """Wait until every batch that was sent is answered."""
        while self._in_flight:
            await asyncio.wait(self._in_flight)

    def _reason_to_refuse(self, left: float) -> Overloaded | None:
        """Why a request with ``left`` seconds is refused; None if it may wait."""
        waiting = len(self._queue)
        if not waiting:
            return None
        if waiting >= self._max_queue:
            return _overload_error(f"{waiting} requests wait already", self._batch_seconds)
        flights = len(self._in_flight)
        if flights >= self._max_in_flight():
            wait = self._batch_seconds * (1 + (waiting // self._max_rows + 1) / flights)
            if wait > left:
                return _overload_error(f"{waiting} requests wait, for {wait:.2g} s more", wait)
        return None

    def _dispatch(self) -> None:
        self._scheduled = False
        while self._queue and len(self._in_flight) < self._max_in_flight():
            if requests := self._next_requests():
                task = self._loop.create_task(self._run(Batch.of(requests)))
                self._in_flight.add(task)
                task.add_done_callback(self._on_batch_done)

    def _next_requests(self) -> list[Pending]:
        """Remove the next requests from the queue, as many as one message may hold."""
        taken: list[Pending] = []
        rows = 0
        queue = self._queue
        while queue and (not taken or rows + queue[0].row_count <= self._max_rows):
            pending = queue.popleft()
            if not pending.done:
                taken.append(pending)
                rows += pending.row_count
        return taken

    async def _run(self, batch: Batch) -> None:
        sent = perf_counter()
        try:
            reply = await self._send(batch)
            _check_size(reply, len(batch.deadlines))
        except Exception as error:  # noqa: BLE001  # every caller must get it
            self._failed(batch.requests, error)
            return
        answered = perf_counter()
        self._batch_seconds += _SMOOTHING * (answered - sent - self._batch_seconds)
        self._scored(_scored_requests(batch.requests, reply, sent, answered))

    def _on_batch_done(self, task: asyncio.Task[None]) -> None:
        self._in_flight.discard(task)
        self._dispatch()


def _check_size(reply: BatchReply, rows: int) -> None:
    if not rows == len(reply.scores) == len(reply.statuses):
        raise PredictionFailed(f"the worker sent {len(reply.scores)} scores for {rows} rows")


def _scored_requests(
    requests: Sequence[Pending], reply: BatchReply, sent: float, answered: float
) -> list[Pending]:
    """Return the requests that have scores now; finish the others with their errors."""
    scored: list[Pending] = []
    begin = 0
    for pending in requests:
        end = begin + pending.row_count
        worst = max(reply.statuses[begin:end])
        if pending.done:
            pass
        elif worst == Status.OK:
            values = reply.scores[begin:end]
            pending.scores = Scores(values, reply.model_version, sent, answered)
            scored.append(pending)
        else:
            pending.finish(_row_error(Status(worst), reply.model_version))
        begin = end
    return scored


def _row_error(status: Status, version: str) -> RequestError:
    if status is Status.EXPIRED:
        return DeadlineExceeded("the request's time ran out")
    reason = "is not a finite number" if status is Status.NOT_FINITE else "could not be computed"
    return PredictionFailed(f"the score of model {version} {reason}")


def _overload_error(words: str, seconds: float) -> Overloaded:
    metrics.SHED.inc()
    return Overloaded(words, retry_after=max(1, math.ceil(seconds)))
