"""Predicts batches in one thread of its own, so that the worker always can say how it is.

Deadlines are looked at once more just before the model runs: what nobody waits for any more is
not computed. A row that the model cannot take fails alone.
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

    ``slot`` is the one for new calls, None before the first; a swap exchanges it.
    """

    def __init__(self, slot: ModelSlot | None) -> None:
        """Begin with ``slot``."""
        self.slot = slot
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="predict")
        self._busy_since: float | None = None

    @property
    def busy_seconds(self) -> float:
        """How long the call that runs now has been running; 0 where none does."""
        since = self._busy_since
        return time.monotonic() - since if since is not None else 0.0

    def start(
        self, slot: ModelSlot, rows: Array, timeouts_ms: npt.NDArray[np.uint32]
    ) -> asyncio.Future[tuple[Array, Statuses, str]]:
        """Scores, statuses and ``slot``'s version to come, for ``rows`` of shape (n, columns).

        The timeouts run from now on, whatever is before these rows in the queue. A future that
        is cancelled before its turn leaves nothing to do.
        """
        received = time.monotonic()
        loop = asyncio.get_running_loop()
        return loop.run_in_executor(self._thread, self._run, slot, rows, timeouts_ms, received)

    async def idle(self) -> None:
        """Wait until every call that was started before has ended."""
        await asyncio.get_running_loop().run_in_executor(self._thread, _nothing)

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


def _nothing() -> None:
    pass


def _scores(slot: ModelSlot, rows: Array) -> tuple[Array, Statuses]:
    """Scores and statuses; where the model objects to a batch, its halves are tried apart."""
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
        log.error("model %s: shape %s for %d rows", slot.version, scores.shape, count)
        return np.full(count, np.nan), np.full(count, Status.FAILED, np.uint8)
    statuses = np.full(count, Status.OK, np.uint8)
    finite = np.isfinite(scores)
    if not finite.all():
        statuses[~finite] = Status.NOT_FINITE
        scores = np.where(finite, scores, np.nan)
    return scores, statuses
