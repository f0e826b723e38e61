"""Predicts batches in a thread of its own, so that the worker can always report its health.

Deadlines are checked again just before the model runs, so expired rows are not computed. A row that
the model refuses fails alone.
"""

from __future__ import annotations

import asyncio
import logging
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import numpy.typing as npt

from mlservice.protocol.packing import Status
from mlservice.worker.slot import ModelSlot

Array = npt.NDArray[np.float64]
Statuses = npt.NDArray[np.uint8]
log = logging.getLogger("mlservice.worker")


class Predictor:
    """Runs the model of a slot; one call at a time.

    ``slot`` is used for new calls, and is None before the first model; a swap replaces it.
    """

    def __init__(self, slot: ModelSlot | None) -> None:
        """Begin with ``slot``, or without a model."""
        self.slot = slot
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="predict")
        self._busy_since: float | None = None

    @property
    def busy_seconds(self) -> float:
        """Seconds since the current call began; 0 if none runs."""
        since = self._busy_since
        return time.monotonic() - since if since is not None else 0.0

    def start(
        self, slot: ModelSlot, rows: Array, timeouts_ms: npt.NDArray[np.uint32]
    ) -> asyncio.Future[tuple[Array, Statuses, str]]:
        """Queue ``rows`` of shape (n, columns); returns a future of scores, statuses and version.

        The timeouts begin now, however many rows are queued before. If the future is cancelled
        before its turn, nothing is computed.
        """
        received = time.monotonic()
        loop = asyncio.get_running_loop()
        return loop.run_in_executor(self._thread, self._run, slot, rows, timeouts_ms, received)

    async def idle(self) -> None:
        """Wait until every call that was queued before has ended."""
        await asyncio.get_running_loop().run_in_executor(self._thread, _do_nothing)

    def _run(
        self, slot: ModelSlot, rows: Array, timeouts_ms: npt.NDArray[np.uint32], received: float
    ) -> tuple[Array, Statuses, str]:
        self._busy_since = time.monotonic()
        try:
            waited_ms = (self._busy_since - received) * 1000
            expired = timeouts_ms <= waited_ms
            if not expired.any():
                return (*_scores(slot, rows), slot.version)
            scores = np.full(len(rows), np.nan)
            statuses = np.full(len(rows), Status.EXPIRED, np.uint8)
            if not expired.all():
                scores[~expired], statuses[~expired] = _scores(slot, rows[~expired])
            return scores, statuses, slot.version
        finally:
            self._busy_since = None


def _do_nothing() -> None:
    pass


def _scores(slot: ModelSlot, rows: Array) -> tuple[Array, Statuses]:
    """Return scores and statuses; if the model refuses a batch, its halves are tried separately."""
    count = len(rows)
    try:
        scores = np.asarray(slot.predict(rows), dtype=np.float64)
    except BaseException:  # also SystemExit: the model's code must not end the thread
        if count > 1:
            first, second = _scores(slot, rows[: count // 2]), _scores(slot, rows[count // 2 :])
            return np.concatenate([first[0], second[0]]), np.concatenate([first[1], second[1]])
        log.exception("model %s cannot predict a row", slot.version)
        return np.full(1, np.nan), np.full(1, Status.FAILED, np.uint8)
    if scores.shape != (count,):
        log.error(
            "model %s returned scores of shape %s for %d rows", slot.version, scores.shape, count
        )
        return np.full(count, np.nan), np.full(count, Status.FAILED, np.uint8)
    statuses = np.full(count, Status.OK, np.uint8)
    finite = np.isfinite(scores)
    if not finite.all():
        statuses[~finite] = Status.NOT_FINITE
        scores = np.where(finite, scores, np.nan)
    return scores, statuses
