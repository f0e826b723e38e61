"""A request whose version loses its last worker between the choice and the batch."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

from mlservice.contracts import Contract
from mlservice.errors import VersionGone
from mlservice.events import EventLog
from mlservice.observe import metrics
from mlservice.owner import RequestCode
from mlservice.policies import CanaryPolicy
from mlservice.prediction.batching import Batch, BatchReply
from mlservice.prediction.context import RequestContext
from mlservice.prediction.path import PredictPath
from mlservice.prediction.pending import Prediction
from mlservice.prediction.routing import Router
from mlservice.prediction.upstreams.enrichment import Enrichment
from mlservice.prediction.workers.pool import WorkerPool
from mlservice.protocol.packing import Status
from mlservice.settings import GatewaySettings
from mlservice.toggles import Toggles

ANYTHING = Contract("anything", {"$schema": "https://json-schema.org/draft/2020-12/schema"})


class LeavingPool(WorkerPool):
    """A pool whose only canary leaves with the first batch for it."""

    left: Callable[[], None]

    async def predict(self, version: str, batch: Batch) -> BatchReply:
        """See ``WorkerPool``."""
        if version == "canary":
            self.left()
            raise VersionGone("no worker of version canary can predict")
        rows = len(batch.deadlines)
        return BatchReply([0.5] * rows, bytes([Status.OK]) * rows, "m")


def test_a_request_whose_version_is_gone_is_answered_by_another_one_and_marked() -> None:
    async def predict_all() -> list[Prediction]:
        pool, router, events = LeavingPool(("x",), None), Router(), EventLog(None, 0)
        pool.unavailable_reason = None
        pool.left = lambda: router.count_workers({"stable": 1})
        path = PredictPath(
            GatewaySettings(),
            RequestCode(("x",), lambda _: (1.0,), lambda score: {"score": score}),
            (ANYTHING, ANYTHING),
            router=router,
            toggles=Toggles(events),
            workers=pool,
            enrichment=Enrichment((), Path()),
            events=events,
        )
        path.open()
        router.count_workers({"stable": 1, "canary": 1})
        router.apply(CanaryPolicy(policy="canary", share=0.5))
        contexts = [RequestContext.begin(str(n), str(n), 5) for n in range(20)]
        return [await path.predict(b"{}", context) for context in contexts]

    before = metrics.VERSION_REQUESTS.counts.copy()
    answers = asyncio.run(predict_all())
    counted = {k: n - before[k] for k, n in metrics.VERSION_REQUESTS.counts.items()}
    assert counted["stable",] == len(answers)
    assert not counted.get(("canary",))
    assert all(b'"score":0.5' in prediction.body for prediction in answers)
    assert {prediction.fallbacks for prediction in answers} == {(), ("version",)}
