"""Callers who hand rows to a batcher and wait for their scores."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence

from mlservice.errors import RequestError
from mlservice.prediction.batching import Batcher, Send
from mlservice.prediction.context import RequestContext
from mlservice.prediction.expiry import Expiry
from mlservice.prediction.pending import Outcome, Pending


class Callers:
    """Callers of one batcher; each hands in a row and waits for its value."""

    def __init__(
        self,
        send: Send,
        *,
        max_rows: int = 8,
        max_queue: int = 100,
        max_in_flight: Callable[[], int] = lambda: 2,
    ) -> None:
        self._expiry = Expiry()
        self._waiting: dict[Pending, asyncio.Future[float]] = {}
        self.batcher = Batcher(
            send,
            self._scored,
            self._failed,
            max_rows=max_rows,
            max_queue=max_queue,
            max_in_flight=max_in_flight,
        )

    async def submit(self, row: bytes, deadline: float, count: int = 1) -> float:
        """The sum of the scores of ``count`` equal rows; raises the request's error."""
        future: asyncio.Future[float] = asyncio.get_running_loop().create_future()

        def done(outcome: Outcome) -> None:
            assert isinstance(outcome, RequestError)
            self._set_error(future, outcome)

        context = RequestContext("r", None, time.perf_counter(), deadline)
        pending = Pending(b"", context, done)
        pending.rows, pending.row_count = row * count, count
        self._waiting[pending] = future
        self._expiry.watch(pending)
        self.batcher.add([pending])
        try:
            return await future
        except asyncio.CancelledError:
            pending.abandon()
            raise

    def _scored(self, scored: Sequence[Pending]) -> None:
        for pending in scored:
            self._waiting.pop(pending).set_result(sum(pending.scores.values))

    def _failed(self, requests: Sequence[Pending], error: Exception) -> None:
        for pending in requests:
            self._set_error(self._waiting.pop(pending), error)

    @staticmethod
    def _set_error(future: asyncio.Future[float], error: Exception) -> None:
        if not future.done():
            future.set_exception(error)
