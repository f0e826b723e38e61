"""Joins the parts that turn a request into an answer, for every way by which requests come.

HTTP and the queue differ in how a request is read and its answer written, and in nothing else; so
what lies between is joined here, once, and follows the live file here.
"""

from __future__ import annotations

import asyncio

from mlservice.contracts import Contract
from mlservice.events import EventLog
from mlservice.live import ListedWorker, Live, LiveFollower
from mlservice.owner import load_request_code, load_upstreams
from mlservice.prediction.path import PredictPath
from mlservice.prediction.statistics_poller import StatisticsPoller
from mlservice.prediction.upstreams.enrichment import Enrichment
from mlservice.prediction.workers.pool import WorkerPool
from mlservice.protocol.tls import channel_credentials
from mlservice.settings import Settings


class PredictService:
    """The predict path of one process; from ``begin`` on it belongs to one event loop."""

    def __init__(self, settings: Settings) -> None:
        """Open the owner's side and the contracts; raises their errors at once."""
        package = settings.service.package
        side = load_request_code(package)
        self.request = Contract.load(settings.contracts / "request.schema.json")
        self.response = Contract.load(settings.contracts / "response.schema.json")
        path = settings.live_file
        self.live = LiveFollower(path, settings.live) if path else None
        self.events = EventLog(settings.events_folder, settings.events.megabytes * 1_000_000)
        credentials = channel_credentials(settings.internal_tls, settings.folder)
        secure = (credentials, settings.internal_tls.worker_name) if credentials else None
        self.workers = WorkerPool(side.names, secure)
        self.enrichment = Enrichment(load_upstreams(package), settings.contracts / "upstreams")
        self.answering = PredictPath(
            settings.gateway,
            side,
            (self.request, self.response),
            self.workers,
            self.enrichment,
            self.events,
        )
        self._statistics = StatisticsPoller(self.answering.router)
        self._unlisted: tuple[ListedWorker, ...] = (ListedWorker(address=settings.gateway.worker),)
        self._following: list[asyncio.Task[None]] = []

    def begin(self) -> None:
        """Know the workers, and follow the live file from now on, where there is one."""
        if self.live is None:
            self.workers.apply(self._unlisted)
            return
        self.live.subscribe(self._follow)
        for run in (self.live.run, self._statistics.run):
            self._following.append(asyncio.create_task(run()))

    async def close(self) -> None:
        """Answer what has left, then close all connections and files."""
        await self.answering.drain()
        for task in self._following:
            task.cancel()
        await self.enrichment.close()
        await self.workers.close()
        self.answering.toggles.close()
        self.events.close()

    def _follow(self, live: Live) -> None:
        """Do as the live file says."""
        if live.workers is not None:
            self._unlisted = ()  # the settings' worker is meant for a file that lists none ever
        self.answering.router.apply(live.routing)
        self._statistics.apply(live.routing)
        self.answering.toggles.apply(live.toggles)
        self.enrichment.apply(live.upstreams)
        self.workers.apply(self._unlisted if live.workers is None else live.workers)
