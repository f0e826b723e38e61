"""The workers that the gateway knows, and the choice of one for each batch.

The list of workers is believed only as far as it can be lived with: one that is no more listed
serves on until a listed one is healthy, so that an empty list, or one of workers that still
start, takes nobody's answer away. Predictions change nothing, so a batch that was lost with its
worker is simply sent to another one.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence

from mlservice.errors import Unavailable
from mlservice.gateway.coalescer import Reply
from mlservice.gateway.worker_client import WorkerClient, WorkerLost
from mlservice.observe import metrics
from mlservice.protocol.packing import features_digest, pack_timeouts, unpack_scores
from mlservice.protocol.predict_pb2 import PredictRequest

_BATCHES = 2
"""Batches that a worker holds at a time: the one it computes and the next."""

log = logging.getLogger("mlservice.gateway")


class WorkerPool:
    """The known workers; belongs to one event loop, and knows none before ``use``."""

    def __init__(self, names: Sequence[str]) -> None:
        """Keep the names of the features that rows will hold."""
        self.trouble: str | None = "no worker is known"
        self._digest = features_digest(names)
        self._listed: frozenset[str] = frozenset()
        self._known: dict[str, WorkerClient] = {}
        self._ready: list[WorkerClient] = []
        self._astray: list[WorkerClient] = []
        self._leaving: dict[asyncio.Task[None], WorkerClient] = {}
        self._grown: Callable[[], None] = lambda: None

    def on_growth(self, call: Callable[[], None]) -> None:
        """Let ``call`` know when more batches can be sent."""
        self._grown = call

    def use(self, addresses: Sequence[str]) -> None:
        """Know the workers at ``addresses`` from now on, each used once it is healthy."""
        if not addresses and self._listed:
            log.warning("no worker is listed any more: those that are healthy are used on")
        self._listed = frozenset(addresses)
        for address in addresses:
            if address not in self._known:
                self._known[address] = WorkerClient(address, self._sort)
        self._sort()

    async def close(self) -> None:
        """Close all channels."""
        leaving = dict(self._leaving)
        for task in leaving:
            task.cancel()
        await asyncio.gather(*leaving, return_exceptions=True)
        clients = (*self._known.values(), *leaving.values())
        await asyncio.gather(*(client.close() for client in clients))

    def most_in_flight(self) -> int:
        """How many batches may be on their way at a time.

        Those that a worker still holds which is not used any more take nobody's place. Where no
        worker can be used, batches may leave all the same, to be refused at once.
        """
        most = _BATCHES * len(self._ready) or _BATCHES
        for worker in self._astray:
            most += worker.in_flight
        return most

    async def predict(
        self, rows: Sequence[bytes], timeouts_ms: Sequence[int], timeout: float
    ) -> Reply:
        """Send packed rows, each with the time it has left; see ``coalescer.Send``.

        A batch that its worker did not answer is sent to another one, once.
        """
        request = PredictRequest(
            rows=b"".join(rows),
            count=len(rows),
            timeouts_ms=pack_timeouts(timeouts_ms),
            features=self._digest,
        )
        clock = asyncio.get_running_loop().time
        started = clock()
        worker = self._choose(None)
        try:
            reply = await worker.predict(request, timeout)
        except WorkerLost:
            metrics.BATCH_RETRIES.inc()
            spent = clock() - started
            left = [max(0, each - int(spent * 1000)) for each in timeouts_ms]
            request.timeouts_ms = pack_timeouts(left)
            reply = await self._choose(worker).predict(request, timeout - spent)
        return Reply(unpack_scores(reply.scores), reply.statuses, reply.model_version)

    def _choose(self, lost: WorkerClient | None) -> WorkerClient:
        """The least loaded worker, and of several the one that was not chosen for longest.

        The one that has ``lost`` the batch is only asked again where there is no other: it may
        be back by now. Raises ``Unavailable``.
        """
        others = [worker for worker in self._ready if worker is not lost]
        if not others:
            if lost is None:
                raise Unavailable(self.trouble or "no worker is known")
            return lost
        best = min(others, key=_load)
        self._ready.remove(best)
        self._ready.append(best)
        return best

    def _sort(self) -> None:
        """Decide anew who is used, after a change of the list or of somebody's health."""
        healthy = [worker for worker in self._known.values() if worker.trouble is None]
        listed = [worker for worker in healthy if worker.address in self._listed]
        if listed:
            for address in self._known.keys() - self._listed:
                self._part_with(self._known.pop(address))
        before = self._ready
        self._ready = listed or healthy
        unused = [worker for worker in self._known.values() if worker not in self._ready]
        self._astray = [*unused, *self._leaving.values()]
        self.trouble = None if self._ready else self._reason()
        metrics.WORKERS.set(len(self._ready))
        metrics.WORKERS_KNOWN.set(len(self._known))
        if len(self._ready) > len(before):
            self._grown()

    def _part_with(self, worker: WorkerClient) -> None:
        log.info("the worker at %s is not listed any more", worker.address)
        task = asyncio.create_task(worker.retire())
        self._leaving[task] = worker
        task.add_done_callback(self._leaving.pop)

    def _reason(self) -> str:
        """Why nobody can predict."""
        troubles = [worker.trouble for worker in self._known.values() if worker.trouble]
        if not troubles:
            return "no worker is known"
        others = f", and {len(troubles) - 1} others cannot predict" if len(troubles) > 1 else ""
        return troubles[0] + others


def _load(worker: WorkerClient) -> int:
    return worker.in_flight
