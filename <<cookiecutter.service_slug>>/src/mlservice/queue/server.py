"""Runs the queue's consumer, with its health over HTTP, and stops it without losing a message."""

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
from mlservice.queue.consumer import QueueConsumer
from mlservice.queue.topics import Topics
from mlservice.queue.watch import Watch
from mlservice.settings import Settings

log = logging.getLogger("mlservice.queue")


def serve_queue(settings: Settings) -> None:
    """Answer messages until SIGTERM or SIGINT.

    Raises ``SettingsError`` where no brokers are set or an option is of no use, ``AddressInUse``,
    ``QueueError`` and what ``PredictService`` raises.
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
    # Python gives up its handlers before it ends, and the signal would kill it then.
    signal.signal(signal.SIGHUP, signal.SIG_IGN)


class QueueService:
    """The parts, the consumer and the health of one process."""

    def __init__(self, settings: Settings) -> None:
        """Open the owner's side and the contracts; raises their errors at once."""
        self.service = PredictService(settings)
        self._settings = settings
        self._consumer: QueueConsumer | None = None
        self._watch: Watch | None = None
        self._failure: BaseException | None = None
        routes = [Route("/live", self._say_live), Route("/ready", self._say_ready)]
        app = Starlette(routes=routes, lifespan=self._lifespan)
        self._server = _Server(uvicorn.Config(app, log_config=None, access_log=False))

    def serve(self, listener: socket.socket) -> None:
        """Run until SIGTERM or SIGINT, or until the consumer fails."""
        self._server.run([listener])
        if self._failure is not None:
            raise self._failure
        if self._consumer is not None and not self._consumer.left:
            log.warning("Kafka is away: the group will miss this member when its session ends")
            logging.shutdown()
            os._exit(0)  # the client's thread hangs, and Python would wait for it

    @property
    def unavailable_reason(self) -> str | None:
        """Why no messages can be answered just now."""
        if self._consumer is None or self._watch is None or self._consumer.stopping:
            return "the consumer does not run"
        if not self._consumer.joined:
            return "the consumer has not joined its group yet"
        return self._watch.unavailable_reason or self.service.unavailable_reason

    @asynccontextmanager
    async def _lifespan(self, _: Starlette) -> AsyncIterator[None]:
        running = asyncio.create_task(self._run())
        running.add_done_callback(self._ended)
        yield
        if self._consumer:
            self._consumer.stop()
        await asyncio.wait([running])

    async def _run(self) -> None:
        self.service.open()
        try:
            await self._consume()
        finally:
            await self.service.close()

    async def _consume(self) -> None:
        settings = self._settings
        self._consumer = QueueConsumer(settings, self.service.path)
        self._watch = Watch(settings.queue, Topics.of(settings), self._consumer.ledger)
        watching = asyncio.create_task(self._watch.run())
        try:
            await self._consumer.run()
        finally:
            watching.cancel()

    def _ended(self, running: asyncio.Task[None]) -> None:
        self._failure = running.exception()
        self._server.should_exit = True

    async def _say_live(self, _: Request) -> JSONResponse:
        return JSONResponse({"status": "alive"})

    async def _say_ready(self, _: Request) -> JSONResponse:
        if reason := self.unavailable_reason:
            return JSONResponse({"status": "not ready", "reason": reason}, 503)
        return JSONResponse({"status": "ready"})


class _Server(uvicorn.Server):
    def handle_exit(self, _: int, __: FrameType | None) -> None:
        """Stop, and leave with 0: uvicorn would raise the signal once more."""
        self.should_exit = True
