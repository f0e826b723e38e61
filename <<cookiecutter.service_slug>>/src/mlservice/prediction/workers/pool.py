"""The workers that the gateway knows, and the choice of one for each batch.

The list of workers is believed only as far as it can be lived with: one that is no more listed
serves on until a listed one is healthy, so that an empty list, or one of workers that still
start, takes nobody's answer away. A worker whose batches fail, or end too late while others' do
not, is left out for a while, however healthy it says it is. Predictions change nothing, so a batch
that was lost with its worker is sent to another one, once, as far as the budget for that goes: when
all workers are in trouble, doubling their load is no help.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Mapping, Sequence

from mlservice.errors import RequestRefused
from mlservice.live import ListedWorker
from mlservice.observe import metrics
from mlservice.prediction.batching import Reply
from mlservice.prediction.retry_budget import RetryBudget
from mlservice.prediction.workers.client import Secure, VersionGone, WorkerClient, WorkerLost
from mlservice.protocol.packing import features_digest, pack_timeouts, unpack_scores
from mlservice.protocol.predict_pb2 import PredictRequest

_BATCHES = 2
"""Batches that a worker holds at a time: the one it computes and the next."""
_MOST_FAILURES = 3
_MUCH_FASTER = 5
_WEIGHT = 0.1

log = logging.getLogger("mlservice.gateway")


class WorkerPool:
    """The known workers; belongs to one event loop, and knows none before ``apply``."""

    def __init__(self, names: Sequence[str], secure: Secure | None = None) -> None:
        """Keep the names of the features that rows will hold; ``secure`` is for channels."""
        self._secure = secure
        self.unavailable_reason: str | None = "no worker is known"
        self._digest = features_digest(names)
        self._listed: dict[str, str] = {}
        self._known: dict[str, WorkerClient] = {}
        self._ready: dict[str, list[WorkerClient]] = {}
        self._astray: dict[str, list[WorkerClient]] = {}
        self._leaving: dict[asyncio.Task[None], WorkerClient] = {}
        self._budget = RetryBudget("worker")
        self._changed: Callable[[Mapping[str, int]], None] = lambda _: None

    def on_change(self, call: Callable[[Mapping[str, int]], None]) -> None:
        """Let ``call`` know how many workers of each version can predict, after each change."""
        self._changed = call

    def apply(self, workers: Sequence[ListedWorker]) -> None:
        """Know these workers from now on, each used once it is healthy."""
        if not workers and self._listed:
            log.warning("no worker is listed any more: those that are healthy are used on")
        self._listed = {worker.address: worker.version for worker in workers}
        for address, version in self._listed.items():
            known = self._known.get(address)
            if known is None:
                self._known[address] = WorkerClient(address, version, self._sort, self._secure)
            else:
                known.version = version
        self._sort()

    async def close(self) -> None:
        """Close all channels."""
        leaving = dict(self._leaving)
        for task in leaving:
            task.cancel()
        await asyncio.gather(*leaving, return_exceptions=True)
        clients = (*self._known.values(), *leaving.values())
        await asyncio.gather(*(client.close() for client in clients))

    def most_in_flight(self, version: str) -> int:
        """How many batches for ``version`` may be on their way at a time.

        Those that a worker still holds which is not used any more take nobody's place. Where no
        worker can be used, batches may leave all the same, to be refused at once.
        """
        most = _BATCHES * len(self._ready.get(version, ())) or _BATCHES
        for worker in self._astray.get(version, ()):
            most += worker.in_flight
        return most

    async def predict(
        self, version: str, rows: Sequence[bytes], timeouts_ms: Sequence[int], timeout: float
    ) -> Reply:
        """Send packed rows, each with the time it has left, to a worker of ``version``.

        See ``coalescer.Send``. A batch that its worker did not answer is sent to another one of
        the same version, once.
        """
        request = PredictRequest(
            rows=b"".join(rows),
            count=len(rows),
            timeouts_ms=pack_timeouts(timeouts_ms),
            features=self._digest,
        )
        clock = asyncio.get_running_loop().time
        started = clock()
        worker = self._choose(version, None)
        self._budget.earn()
        try:
            reply = await worker.predict(request, timeout)
            worker.usual += _WEIGHT * (clock() - started - worker.usual)
        except WorkerLost:
            self._weigh(worker)
            if not self._budget.spend():
                raise
            metrics.BATCH_RETRIES.inc()
            spent = clock() - started
            left = [max(0, each - int(spent * 1000)) for each in timeouts_ms]
            request.timeouts_ms = pack_timeouts(left)
            reply = await self._choose(version, worker).predict(request, timeout - spent)
        except RequestRefused as error:
            if error.status == 504 and self._others_are_faster(worker, timeout):
                worker.failures += 1
            self._weigh(worker)
            raise
        return Reply(unpack_scores(reply.scores), reply.statuses, reply.model_version)

    def _choose(self, version: str, lost: WorkerClient | None) -> WorkerClient:
        """The least loaded worker, and of several the one that was not chosen for longest.

        The one that has ``lost`` the batch is only asked again where there is no other: it may
        be back by now. Raises ``VersionGone``.
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
        """Whether it is the worker that was too slow, not the caller in too much of a hurry.

        Where all workers are too slow there is too much to do, and leaving one out is no help.
        """
        fellows = self._ready.get(worker.version, [])
        usual = [other.usual for other in fellows if other is not worker and not other.failures]
        return any(0 < _MUCH_FASTER * seconds < timeout for seconds in usual)

    def _weigh(self, worker: WorkerClient) -> None:
        """Leave out a worker that fails again and again, unless it is the last of its version."""
        fellows = self._ready.get(worker.version, [])
        if worker.failures >= _MOST_FAILURES and worker in fellows and len(fellows) > 1:
            metrics.EJECTIONS.inc()
            worker.eject()

    def _sort(self) -> None:
        """Decide anew who is used, after a change of the list or of somebody's health."""
        healthy = [worker for worker in self._known.values() if worker.unavailable_reason is None]
        listed = [worker for worker in healthy if worker.address in self._listed]
        if listed:
            for address in self._known.keys() - self._listed.keys():
                self._part_with(self._known.pop(address))
        ready = listed or healthy
        self._ready = _by_version(ready)
        unused = [worker for worker in self._known.values() if worker not in ready]
        self._astray = _by_version([*unused, *self._leaving.values()])
        self.unavailable_reason = None if ready else self._reason()
        metrics.WORKERS.set(len(ready))
        metrics.WORKERS_KNOWN.set(len(self._known))
        self._changed(Counter(worker.version for worker in ready))

    def _part_with(self, worker: WorkerClient) -> None:
        log.info("the worker at %s is not listed any more", worker.address)
        task = asyncio.create_task(worker.retire())
        self._leaving[task] = worker
        task.add_done_callback(self._leaving.pop)

    def _reason(self) -> str:
        """Why nobody can predict; callers see it, so the addresses are left to the log."""
        if not self._known:
            return "no worker is known"
        return f"{len(self._known)} workers are known, and cannot predict"


def _by_version(workers: Sequence[WorkerClient]) -> dict[str, list[WorkerClient]]:
    found: dict[str, list[WorkerClient]] = {}
    for worker in workers:
        found.setdefault(worker.version, []).append(worker)
    return found


def _load(worker: WorkerClient) -> int:
    return worker.in_flight
