"""Knows the workers, and chooses one for each batch.

A worker that disappears from the list stays in use until a listed one is healthy, so an empty list,
or a list of workers that are still starting, never takes the service down. A worker whose batches
fail, or are late while others' are not, is ejected for a while, even if it reports healthy.
Predictions have no side effects, so a batch that was lost with its worker is sent once to another
one. A retry budget limits this, because doubling the load does not help if all workers fail.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from time import perf_counter

from mlservice.errors import DeadlineExceeded, RequestError, VersionGone, WorkerLost
from mlservice.live import ListedWorker
from mlservice.observe import metrics
from mlservice.prediction.batching import Batch, BatchReply
from mlservice.prediction.context import milliseconds_left
from mlservice.prediction.retry_budget import RetryBudget
from mlservice.prediction.workers.client import WorkerClient
from mlservice.protocol.packing import features_digest, pack_timeouts, unpack_scores
from mlservice.protocol.predict_pb2 import PredictRequest
from mlservice.protocol.tls import WorkerIdentity

_BATCHES_PER_WORKER = 2
"""Batches that a worker holds at a time: the one that it computes and the next."""
_MAX_FAILURES = 3
_SLOW_FACTOR = 5
_SMOOTHING = 0.1
"""Weight of the newest batch in the moving average of a worker's time."""

log = logging.getLogger("mlservice.gateway")


class WorkerPool:
    """The known workers (none before ``apply``); belongs to one event loop."""

    def __init__(self, names: Sequence[str], identity: WorkerIdentity | None = None) -> None:
        """Send rows of the features ``names``; ``identity`` secures the channels."""
        self._identity = identity
        self.unavailable_reason: str | None = "no worker is known"
        self._digest = features_digest(names)
        self._listed: dict[str, str] = {}
        self._known: dict[str, WorkerClient] = {}
        self._ready: dict[str, list[WorkerClient]] = {}
        self._unused: dict[str, list[WorkerClient]] = {}
        self._retiring: dict[asyncio.Task[None], WorkerClient] = {}
        self._budget = RetryBudget("worker")
        self._on_change: Callable[[Mapping[str, int]], None] = lambda _: None

    def on_change(self, call: Callable[[Mapping[str, int]], None]) -> None:
        """Call ``call`` after each change, with the number of ready workers by version."""
        self._on_change = call

    def apply(self, workers: Sequence[ListedWorker]) -> None:
        """Set the list of workers; each is used as soon as it is healthy."""
        if not workers and self._listed:
            log.warning("no worker is listed: the healthy ones stay in use")
        self._listed = {worker.address: worker.version for worker in workers}
        for address, version in self._listed.items():
            known = self._known.get(address)
            if known is None:
                self._known[address] = WorkerClient(
                    address, version, self._update_ready, self._identity
                )
            else:
                known.version = version
        self._update_ready()

    async def close(self) -> None:
        """Close all channels."""
        leaving = dict(self._retiring)
        for task in leaving:
            task.cancel()
        await asyncio.gather(*leaving, return_exceptions=True)
        clients = (*self._known.values(), *leaving.values())
        await asyncio.gather(*(client.close() for client in clients))

    def max_in_flight(self, version: str) -> int:
        """The number of batches for ``version`` that may be in flight.

        Batches held by retired workers do not count against the limit. If no worker can be used,
        batches may still be sent, to fail at once.
        """
        most = _BATCHES_PER_WORKER * len(self._ready.get(version, ())) or _BATCHES_PER_WORKER
        for worker in self._unused.get(version, ()):
            most += worker.in_flight
        return most

    async def predict(self, version: str, batch: Batch) -> BatchReply:
        """Send a batch to a worker of ``version``; raises ``RequestError``.

        A batch that its worker did not answer is sent to another one of the same version, once.
        """
        worker = self._choose(version, None)
        self._budget.earn()
        started = perf_counter()
        try:
            reply = await worker.predict(self._request(batch, started), max(batch.deadlines))
            worker.average_seconds += _SMOOTHING * (
                perf_counter() - started - worker.average_seconds
            )
        except WorkerLost:
            self._eject_if_failing(worker)
            if not self._budget.spend():
                raise
            metrics.BATCH_RETRIES.inc()
            other = self._choose(version, worker)
            again = self._request(batch, perf_counter())
            reply = await other.predict(again, max(batch.deadlines))
        except RequestError as error:
            late = isinstance(error, DeadlineExceeded)
            if late and self._others_are_faster(worker, max(batch.deadlines) - started):
                worker.failures += 1
            self._eject_if_failing(worker)
            raise
        return BatchReply(unpack_scores(reply.scores), reply.statuses, reply.model_version)

    def _request(self, batch: Batch, now: float) -> PredictRequest:
        """Make the message for a worker, with the time that each row has left."""
        left = [milliseconds_left(deadline, now) for deadline in batch.deadlines]
        return PredictRequest(
            rows=batch.rows,
            count=len(batch.deadlines),
            timeouts_ms=pack_timeouts(left),
            features=self._digest,
        )

    def _choose(self, version: str, lost: WorkerClient | None) -> WorkerClient:
        """Choose the least loaded worker; of several, the one that was used least recently.

        The worker that ``lost`` the batch gets it again only if there is no other: it may be back.
        Raises ``VersionGone``.
        """
        ready = self._ready.get(version, [])
        others = [worker for worker in ready if worker is not lost]
        if not others:
            if lost is None:
                reason = self.unavailable_reason
                raise VersionGone(reason or f"no worker of version {version} can predict")
            return lost
        best = min(others, key=_load)
        ready.remove(best)
        ready.append(best)
        return best

    def _others_are_faster(self, worker: WorkerClient, timeout: float) -> bool:
        """Whether the worker was too slow, not the caller's timeout too short.

        If all workers are too slow, there is too much load, and ejecting one does not help.
        """
        ready = self._ready.get(worker.version, [])
        averages = [
            other.average_seconds for other in ready if other is not worker and not other.failures
        ]
        return any(0 < _SLOW_FACTOR * seconds < timeout for seconds in averages)

    def _eject_if_failing(self, worker: WorkerClient) -> None:
        """Eject a worker that fails repeatedly, unless it is the last one of its version."""
        ready = self._ready.get(worker.version, [])
        if worker.failures >= _MAX_FAILURES and worker in ready and len(ready) > 1:
            metrics.EJECTIONS.inc()
            worker.eject()

    def _update_ready(self) -> None:
        """Update the workers in use, after a change of the list or of a worker's health."""
        healthy = [worker for worker in self._known.values() if worker.unavailable_reason is None]
        listed = [worker for worker in healthy if worker.address in self._listed]
        if listed:
            for address in self._known.keys() - self._listed.keys():
                self._retire(self._known.pop(address))
        ready = listed or healthy
        self._ready = _by_version(ready)
        unused = [worker for worker in self._known.values() if worker not in ready]
        self._unused = _by_version([*unused, *self._retiring.values()])
        self.unavailable_reason = None if ready else self._reason()
        metrics.WORKERS.set(len(ready))
        metrics.WORKERS_KNOWN.set(len(self._known))
        self._on_change(Counter(worker.version for worker in ready))

    def _retire(self, worker: WorkerClient) -> None:
        log.info("the worker at %s is no longer listed", worker.address)
        task = asyncio.create_task(worker.retire())
        self._retiring[task] = worker
        task.add_done_callback(self._retiring.pop)

    def _reason(self) -> str:
        """Why no worker can predict. Callers see it, so only the log has the addresses."""
        if not self._known:
            return "no worker is known"
        return f"{len(self._known)} workers are known, but they cannot predict"


def _by_version(workers: Sequence[WorkerClient]) -> dict[str, list[WorkerClient]]:
    found: dict[str, list[WorkerClient]] = {}
    for worker in workers:
        found.setdefault(worker.version, []).append(worker)
    return found


def _load(worker: WorkerClient) -> int:
    return worker.in_flight
