"""A request whose version loses its last worker between the choice and the batch."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from mlservice.contracts import Contract
from mlservice.events import EventLog
from mlservice.observe import metrics
from mlservice.owner import RequestCode
from mlservice.policies import CanaryPolicy
from mlservice.prediction.batching import Reply
from mlservice.prediction.path import Prediction, PredictPath, RequestContext
from mlservice.prediction.upstreams.enrichment import Enrichment
from mlservice.prediction.workers.client import VersionGone
from mlservice.prediction.workers.pool import WorkerPool
from mlservice.protocol.packing import Status
from mlservice.settings import GatewaySettings

ANYTHING = Contract("anything", {"$schema": "https://json-schema.org/draft/2020-12/schema"})


class LeavingPool(WorkerPool):
    """A pool whose only canary leaves with the first batch for it."""

    left: Callable[[], None]

    async def predict(
        self,
        version: str,
        rows: Sequence[bytes],
        timeouts_ms: Sequence[int],  # noqa: ARG002  # the pool's own
        timeout: float,  # noqa: ARG002  # likewise
    ) -> Reply:
        """See ``WorkerPool``."""
        if version == "canary":
            self.left()
            raise VersionGone("no worker of version canary can predict")
        return Reply([0.5] * len(rows), bytes([Status.OK]) * len(rows), "m")


def test_it_is_answered_by_another_version_and_marked() -> None:
    async def ask() -> list[Prediction]:
        pool = LeavingPool(("x",), None)
        pool.unavailable_reason = None
        side = RequestCode(("x",), lambda _: (1.0,), lambda score: {"score": score})
        contracts, nobody = (ANYTHING, ANYTHING), Enrichment((), Path())
        answering = PredictPath(GatewaySettings(), side, contracts, pool, nobody, EventLog(None, 0))
        router = answering.router
        pool.left = lambda: router.count_workers({"stable": 1})
        router.count_workers({"stable": 1, "canary": 1})
        router.apply(CanaryPolicy(policy="canary", share=0.5))
        asked = [RequestContext(str(n), str(n), time.perf_counter(), 5) for n in range(20)]
        return [await answering.answer(b"{}", each) for each in asked]

    before = metrics.VERSION_REQUESTS.counts.copy()
    answers = asyncio.run(ask())
    counted = {k: n - before[k] for k, n in metrics.VERSION_REQUESTS.counts.items()}
    assert counted["stable",] == len(answers)
    assert not counted.get(("canary",))
    assert all(b'"score":0.5' in answered.body for answered in answers)
    assert {answered.fallbacks for answered in answers} == {(), ("version",)}
