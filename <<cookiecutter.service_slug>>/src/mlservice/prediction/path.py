"""From a request's bytes to its answer, whichever way it came: over HTTP or out of a queue.

Contract, toggles, version, upstreams, features, worker, answer, contract: each stage has its part
of the one deadline and its time in the metrics, and what came of it becomes an event.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from time import perf_counter
from typing import Any

import orjson

from mlservice.contracts import Contract, parse
from mlservice.errors import RequestRefused, Unavailable
from mlservice.events import EventLog, PredictionEvent, unit_of
from mlservice.observe import metrics
from mlservice.owner import RequestCode
from mlservice.prediction.batching import Batcher, Score
from mlservice.prediction.routing import Router
from mlservice.prediction.traffic_split import Choice
from mlservice.prediction.upstreams.enrichment import Enrichment
from mlservice.prediction.workers.client import VersionGone
from mlservice.prediction.workers.pool import WorkerPool
from mlservice.protocol.packing import RowPacker
from mlservice.settings import GatewaySettings
from mlservice.toggles import ToggleContext, Toggles
from mlservice.toggles.current import CURRENT_TOGGLES

_observe = metrics.STAGE_SECONDS.observe
log = logging.getLogger("mlservice.gateway")


@dataclass(slots=True)
class RequestContext:
    """A request as it came in: it ``started`` by ``perf_counter`` and may take ``timeout`` s."""

    request_id: str
    user: str | None
    started: float
    timeout: float

    @property
    def deadline(self) -> float:
        """When its time ends, by ``perf_counter``."""
        return self.started + self.timeout


@dataclass(slots=True)
class Prediction:
    """The answer's JSON, what it was given without, and the seconds that each stage took."""

    body: bytes
    fallbacks: tuple[str, ...]
    stages: dict[str, float] = field(default_factory=dict)


class PredictPath:
    """The parts of the gateway that an answer needs; belongs to one event loop."""

    def __init__(
        self,
        settings: GatewaySettings,
        side: RequestCode,
        contracts: tuple[Contract, Contract],
        workers: WorkerPool,
        enrichment: Enrichment,
        events: EventLog,
    ) -> None:
        """Join the owner's side, the contracts of request and response, and the rest."""
        self.router = Router()
        self.toggles = Toggles(events)
        self.workers = workers
        self.enrichment = enrichment
        self._settings = settings
        self._side = side
        self._request, self._response = contracts
        self._events = events
        self._packer = RowPacker(len(side.names))
        self._lanes: dict[str, Batcher] = {}
        workers.on_change(self._count_workers)

    @property
    def unavailable_reason(self) -> str | None:
        """Why no request can be answered, None where they can."""
        return self.workers.unavailable_reason or self.router.unavailable_reason

    async def answer(self, body: bytes, asked: RequestContext) -> Prediction:
        """The answer to a request; raises ``RequestRefused``."""
        message = parse(body)
        if faults := self._request.faults(message):
            raise RequestRefused(422, "invalid_request", "the request breaks its contract", faults)
        if reason := self.workers.unavailable_reason:
            raise Unavailable(reason)
        choice = self._choose(asked)
        validated = perf_counter()
        stages = {"validate": validated - asked.started}
        lacking: tuple[str, ...] = ()
        if self.enrichment.any:
            left = asked.timeout - stages["validate"]
            message, lacking = await self.enrichment.enrich(message, left)
            stages["enrich"] = perf_counter() - validated
        asking = ToggleContext(self.toggles, asked.user, asked.request_id, message)
        choice, score = await self._score(self._row(message, asking), choice, asked)
        stages["queue"], stages["worker"] = score.queued, score.worked
        scored = perf_counter()
        answer = self._respond(score, asked, asking)
        stages["respond"] = perf_counter() - scored
        for stage, seconds in stages.items():
            _observe((stage,), seconds)
        found = self._found(choice, lacking)
        self._tell(asked, choice, score, answer, found, stages)
        return Prediction(orjson.dumps(answer), found, stages)

    async def drain(self) -> None:
        """Wait until every batch that has left is answered."""
        for lane in self._lanes.values():
            await lane.drain()

    def _choose(self, asked: RequestContext) -> Choice:
        user = asked.user if asked.user and self.router.sticky else asked.request_id
        return self.router.choose(user)

    def _row(self, message: Mapping[str, Any], asking: ToggleContext) -> bytes:
        token = CURRENT_TOGGLES.set(asking)
        try:
            return self._packer.pack(self._side.features(message))
        finally:
            CURRENT_TOGGLES.reset(token)

    async def _score(
        self, row: bytes, choice: Choice, asked: RequestContext
    ) -> tuple[Choice, Score]:
        """The score of ``row``, and which version gave it: another one where the first is gone."""
        try:
            score = await self._lane(choice.version).submit(row, asked.deadline)
        except VersionGone:
            choice = self._choose(asked)
            score = await self._lane(choice.version).submit(row, asked.deadline)
        metrics.VERSION_REQUESTS.counts[choice.version,] += 1
        if choice.version != choice.assigned:
            metrics.VERSION_FALLBACKS.labels(choice.assigned).inc()
        return choice, score

    def _respond(
        self, score: Score, asked: RequestContext, asking: ToggleContext
    ) -> dict[str, Any]:
        token = CURRENT_TOGGLES.set(asking)
        try:
            prediction = self._side.respond(score.value)
        finally:
            CURRENT_TOGGLES.reset(token)
        answer = {
            "request_id": asked.request_id,
            "model_version": score.model_version,
            "prediction": prediction,
        }
        if faults := self._response.faults(answer):
            log.error("the response to %s breaks its contract: %s", asked.request_id, faults)
            raise RequestRefused(500, "invalid_response", "the response breaks its contract")
        return answer

    def _found(self, choice: Choice, lacking: tuple[str, ...]) -> tuple[str, ...]:
        return lacking if choice.version == choice.assigned else (*lacking, "version")

    def _tell(
        self,
        asked: RequestContext,
        choice: Choice,
        score: Score,
        answer: Mapping[str, Any],
        fallbacks: tuple[str, ...],
        stages: Mapping[str, float],
    ) -> None:
        if not self._events.on:
            return
        self._events.put(
            PredictionEvent(  # by position: names would double the cost of making it
                time.time(),
                asked.request_id,
                asked.user,
                choice.policy,
                choice.assigned,
                choice.probability,
                choice.version,
                score.model_version,
                answer["prediction"],
                fallbacks,
                stages,
                choice.salt,
                unit_of(asked.user if self.router.sticky else None),
            )
        )

    def _lane(self, version: str) -> Batcher:
        """The batches of one version."""
        lane = self._lanes.get(version)
        if lane is None:
            lane = self._lanes[version] = Batcher(
                partial(self.workers.predict, version),
                max_rows=min(self._settings.max_batch_rows, self._packer.most_rows),
                max_queue=self._settings.max_queue_rows,
                max_in_flight=partial(self.workers.most_in_flight, version),
            )
        return lane

    def _count_workers(self, counts: Mapping[str, int]) -> None:
        self.router.count_workers(counts)
        for lane in self._lanes.values():
            lane.wake()
