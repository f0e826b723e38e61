"""The predict path: from a request's bytes to its outcome, the same over HTTP and Kafka.

A task and a future for each request cost more than all its stages. So the requests of one turn of
the event loop go through the stages together, in plain calls: parse, check the contract, choose the
version, compute the features, send one batch for each version, respond. A request becomes a task
only if an upstream must be asked. It then joins the turn in which its answers are complete. Each
stage has its time in the metrics, and each prediction becomes an event.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from time import perf_counter
from typing import TypeVar

from mlservice.contracts import Contract
from mlservice.errors import InternalError, RequestError, Unavailable, VersionGone
from mlservice.events import EventLog, PredictionEvent, unit_of
from mlservice.observe import metrics
from mlservice.owner import RequestCode
from mlservice.prediction import stages
from mlservice.prediction.batching import Batcher
from mlservice.prediction.context import RequestContext
from mlservice.prediction.expiry import Expiry
from mlservice.prediction.pending import Outcome, Pending, Prediction, StageTimes
from mlservice.prediction.routing import Router
from mlservice.prediction.traffic_split import Choice
from mlservice.prediction.upstreams.enrichment import Enrichment, Lookup
from mlservice.prediction.workers.pool import WorkerPool
from mlservice.protocol.packing import RowPacker
from mlservice.settings import GatewaySettings
from mlservice.toggles import Toggles

T = TypeVar("T")
log = logging.getLogger("mlservice.prediction")


class PredictPath:
    """Answers requests; belongs to one event loop after ``open``."""

    def __init__(
        self,
        settings: GatewaySettings,
        code: RequestCode,
        contracts: tuple[Contract, Contract],
        *,
        router: Router,
        toggles: Toggles,
        workers: WorkerPool,
        enrichment: Enrichment,
        events: EventLog,
    ) -> None:
        """Join the owner's code, the contracts (request, response) and the other parts."""
        self._settings = settings
        self._code = code
        self._request, self._response = contracts
        self._router = router
        self._toggles = toggles
        self._workers = workers
        self._enrichment = enrichment
        self._events = events
        self._packer = RowPacker(len(code.names))
        self._batchers: dict[str, Batcher] = {}
        self._arrived: list[Pending] = []
        self._enriched: list[Pending] = []
        self._enriching: set[asyncio.Task[None]] = set()
        self._scheduled = False

    def open(self) -> None:
        """Bind the path to the running event loop."""
        self._loop = asyncio.get_running_loop()
        self._expiry = Expiry()
        self._workers.on_change(self._count_workers)

    @property
    def unavailable_reason(self) -> str | None:
        """Why no request can be answered; None if requests can."""
        return self._workers.unavailable_reason or self._router.unavailable_reason

    def submit(self, pending: Pending) -> None:
        """Accept a request; its callback gets the outcome."""
        self._expiry.watch(pending)
        self._arrived.append(pending)
        self._schedule()

    async def predict(self, body: bytes, context: RequestContext) -> Prediction:
        """Predict for one request; raises ``RequestError``. A cancel abandons the request."""
        outcome: asyncio.Future[Outcome] = self._loop.create_future()
        pending = Pending(body, context, partial(_set_unless_done, outcome))
        self.submit(pending)
        try:
            found = await outcome
        except asyncio.CancelledError:
            pending.abandon()
            raise
        if isinstance(found, RequestError):
            raise found
        return found

    async def close(self) -> None:
        """Wait until every batch that was sent is answered."""
        for batcher in self._batchers.values():
            await batcher.drain()
        for task in self._enriching:
            task.cancel()
        self._expiry.close()

    def _schedule(self) -> None:
        if not self._scheduled:
            self._scheduled = True
            self._loop.call_soon(self._run_stages)

    def _run_stages(self) -> None:
        """Run the stages for the requests of this turn, up to their batches."""
        self._scheduled = False
        arrived, self._arrived = self._arrived, []
        complete, self._enriched = self._enriched, []
        accepted = _run_stage(self._accept, arrived)
        complete += self._enrich(accepted) if self._enrichment.has_upstreams else accepted
        ready = _run_stage(self._compute_rows, complete)
        for version, group in _by_version(ready).items():
            self._batcher(version).add(group)

    def _accept(self, pending: Pending) -> None:
        stages.parse_request(pending, self._request)
        if reason := self._workers.unavailable_reason:
            raise Unavailable(reason)
        stages.choose_version(pending, self._router)
        pending.validated_at = perf_counter()

    def _enrich(self, accepted: Sequence[Pending]) -> list[Pending]:
        """Return the requests whose upstream answers are known; the others become tasks."""
        known = []
        for pending, lookup in _run_stage_with_results(self._look_up, accepted):
            if lookup.unknown:
                task = self._loop.create_task(self._ask_upstreams(pending, lookup))
                self._enriching.add(task)
                task.add_done_callback(self._enriching.discard)
            else:
                _add_answers(pending, lookup)
                known.append(pending)
        return known

    def _look_up(self, pending: Pending) -> Lookup:
        return self._enrichment.look_up(pending.message)

    async def _ask_upstreams(self, pending: Pending, lookup: Lookup) -> None:
        try:
            await self._enrichment.ask(lookup, pending.deadline)
            _add_answers(pending, lookup)
        except Exception as error:  # noqa: BLE001  # the caller must get it
            pending.finish(_as_request_error(error, pending))
        else:
            self._enriched.append(pending)
            self._schedule()

    def _compute_rows(self, pending: Pending) -> None:
        stages.compute_rows(pending, self._toggles, self._code, self._packer)

    def _batcher(self, version: str) -> Batcher:
        found = self._batchers.get(version)
        if found is None:
            found = self._batchers[version] = Batcher(
                partial(self._workers.predict, version),
                self._respond,
                self._fail,
                max_rows=min(self._settings.max_batch_rows, self._packer.max_rows),
                max_queue=self._settings.max_queue_rows,
                max_in_flight=partial(self._workers.max_in_flight, version),
            )
        return found

    def _respond(self, scored: Sequence[Pending]) -> None:
        """Finish the scored requests with their responses."""
        finished = _run_stage_with_results(self._make_response, scored)
        _count([pending.choice for pending, _ in finished])
        _observe([prediction.stages for _, (prediction, _) in finished])
        for pending, (prediction, content) in finished:
            if self._events.on:
                self._events.put(self._event(pending, prediction, content))
            pending.finish(prediction)

    def _make_response(self, pending: Pending) -> tuple[Prediction, object]:
        return stages.make_response(pending, self._code, self._response, perf_counter)

    def _fail(self, requests: Sequence[Pending], error: Exception) -> None:
        """Choose another version for the requests of a failed batch, or finish them."""
        again: list[Pending] = []
        for pending in requests:
            if isinstance(error, VersionGone) and not pending.reassigned and not pending.done:
                pending.reassigned = True
                again.append(pending)
            else:
                pending.finish(_as_request_error(error, pending))
        chosen = _run_stage(partial(stages.choose_version, router=self._router), again)
        for version, group in _by_version(chosen).items():
            self._batcher(version).add(group)

    def _event(self, pending: Pending, prediction: Prediction, content: object) -> PredictionEvent:
        context, choice = pending.context, pending.choice
        return PredictionEvent(  # by position, because names would double the cost
            time.time(),
            context.request_id,
            context.user,
            choice.policy,
            choice.assigned,
            choice.probability,
            choice.version,
            pending.scores.model_version,
            content,
            prediction.fallbacks,
            prediction.stages.by_name(),
            choice.salt,
            unit_of(context.user if self._router.sticky else None),
        )

    def _count_workers(self, counts: Mapping[str, int]) -> None:
        self._router.count_workers(counts)
        for batcher in self._batchers.values():
            batcher.wake()


def _count(choices: Sequence[Choice]) -> None:
    """Count the responses of a batch by version."""
    for (version, assigned), number in Counter((c.version, c.assigned) for c in choices).items():
        metrics.VERSION_REQUESTS.counts[version,] += number
        if version != assigned:
            metrics.VERSION_FALLBACKS.labels(assigned).inc(number)


def _observe(times: Sequence[StageTimes]) -> None:
    """Record the stage times of a batch in the metrics."""
    for stage, amounts in zip(StageTimes._fields, zip(*times, strict=True), strict=False):
        measured = [amount for amount in amounts if amount is not None]
        if measured:
            metrics.STAGE_SECONDS.observe_many((stage,), measured)


def _add_answers(pending: Pending, lookup: Lookup) -> None:
    pending.message, pending.fallbacks = lookup.merged()
    pending.enriched_at = perf_counter()


def _run_stage(stage: Callable[[Pending], None], requests: Sequence[Pending]) -> list[Pending]:
    """Run a stage for each request; returns those that passed, the others are finished."""
    return [pending for pending, _ in _run_stage_with_results(stage, requests)]


def _run_stage_with_results(
    stage: Callable[[Pending], T], requests: Sequence[Pending]
) -> list[tuple[Pending, T]]:
    """Run a stage for each request; returns those that passed, with the stage's results."""
    passed = []
    for pending in requests:
        if pending.done:
            continue
        try:
            passed.append((pending, stage(pending)))
        except Exception as error:  # noqa: BLE001  # the owner's code may raise anything
            pending.finish(_as_request_error(error, pending))
    return passed


def _as_request_error(error: Exception, pending: Pending) -> RequestError:
    """Return ``error`` if callers may see it; else log it and return an ``InternalError``."""
    if isinstance(error, RequestError):
        return error
    log.error("request %s failed", pending.context.request_id, exc_info=error)
    return InternalError("see the log")


def _by_version(requests: Sequence[Pending]) -> dict[str, list[Pending]]:
    found: dict[str, list[Pending]] = {}
    for pending in requests:
        found.setdefault(pending.choice.version, []).append(pending)
    return found


def _set_unless_done(future: asyncio.Future[Outcome], outcome: Outcome) -> None:
    if not future.done():
        future.set_result(outcome)
