"""Runs the queue's process: answers messages, reports health over HTTP, and stops without loss."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import FrameType

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from mlservice.address import listen
from mlservice.errors import SettingsError
from mlservice.observe import metrics
from mlservice.observe.logs import log_as_json
from mlservice.prediction.service import PredictService
from mlservice.queue.lag_monitor import LagMonitor
from mlservice.queue.processor import QueueProcessor
from mlservice.queue.topics import Topics
from mlservice.settings import Settings

log = logging.getLogger("mlservice.queue")


def serve_queue(settings: Settings) -> None:
    """Answer messages until SIGTERM or SIGINT.

    Raises ``SettingsError`` if no brokers are set or librdkafka refuses an option,
    ``AddressInUse``, ``QueueError`` and what ``PredictService`` raises.
    """
    if not settings.queue.brokers:
        raise SettingsError(
            "[queue] brokers is empty: name Kafka's brokers there or in MLSERVICE_QUEUE__BROKERS, "
            "as host:port, separated by commas"
        )
    log_as_json(settings.service.name)
    queue = QueueService(settings)
    signal.signal(signal.SIGHUP, lambda *_: queue.service.reload_soon())
    metrics.serve_metrics("queue", settings.queue.host, settings.queue.metrics_port)
    with listen("queue", settings.queue.host, settings.queue.port) as listener:
        queue.serve(listener)
    # Python removes its handlers before it exits, and a late SIGHUP would kill it then.
    signal.signal(signal.SIGHUP, signal.SIG_IGN)


class QueueService:
    """The predict path, the processor and the health of one process."""

    def __init__(self, settings: Settings) -> None:
        """Load the owner's code and the contracts; raises their errors at once."""
        self.service = PredictService(settings)
        self._settings = settings
        self._processor: QueueProcessor | None = None
        self._lag_monitor: LagMonitor | None = None
        self._failure: BaseException | None = None
        routes = [Route("/live", self._live), Route("/ready", self._ready)]
        app = Starlette(routes=routes, lifespan=self._lifespan)
        self._server = _Server(uvicorn.Config(app, log_config=None, access_log=False))

    def serve(self, listener: socket.socket) -> None:
        """Run until SIGTERM or SIGINT, or until the consumer fails."""
        self._server.run([listener])
        if self._failure is not None:
            raise self._failure
        if self._processor is not None and not self._processor.left:
            log.warning("Kafka is down: the group keeps this member until its session times out")
            logging.shutdown()
            os._exit(0)  # the consumer's thread hangs, and Python would wait for it

    @property
    def unavailable_reason(self) -> str | None:
        """Why no messages can be answered now, None if they can."""
        if self._processor is None or self._lag_monitor is None or self._processor.stopping:
            return "the consumer does not run"
        if not self._processor.joined:
            return "the consumer has not joined its group yet"
        return self._lag_monitor.unavailable_reason or self.service.unavailable_reason

    @asynccontextmanager
    async def _lifespan(self, _: Starlette) -> AsyncIterator[None]:
        running = asyncio.create_task(self._run())
        running.add_done_callback(self._on_consumer_done)
        yield
        if self._processor:
            self._processor.stop()
        await asyncio.wait([running])

    async def _run(self) -> None:
        self.service.open()
        try:
            await self._consume()
        finally:
            await self.service.close()

    async def _consume(self) -> None:
        settings = self._settings
        self._processor = QueueProcessor(settings, self.service.path)
        self._lag_monitor = LagMonitor(settings.queue, Topics.of(settings), self._processor.ledger)
        monitoring = asyncio.create_task(self._lag_monitor.run())
        try:
            await self._processor.run()
        finally:
            monitoring.cancel()

    def _on_consumer_done(self, running: asyncio.Task[None]) -> None:
        self._failure = running.exception()
        self._server.should_exit = True

    async def _live(self, _: Request) -> JSONResponse:
        return JSONResponse({"status": "alive"})

    async def _ready(self, _: Request) -> JSONResponse:
        if reason := self.unavailable_reason:
            return JSONResponse({"status": "not ready", "reason": reason}, 503)
        return JSONResponse({"status": "ready"})


class _Server(uvicorn.Server):
    def handle_exit(self, _: int, __: FrameType | None) -> None:
        """Stop and exit with 0; uvicorn's own method would raise the signal again."""
        self.should_exit = True
