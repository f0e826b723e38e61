"""Creates the parts of the predict path and joins them, for every transport.

Only this module creates these parts and applies the live file to them. HTTP and the queue differ
only in how they read a request and write its outcome.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from mlservice.contracts import Contract
from mlservice.events import EventLog
from mlservice.live import ListedWorker, Live, LiveFollower
from mlservice.owner import load_request_code, load_upstreams
from mlservice.prediction.path import PredictPath
from mlservice.prediction.routing import Router
from mlservice.prediction.statistics_poller import StatisticsPoller
from mlservice.prediction.upstreams.enrichment import Enrichment
from mlservice.prediction.workers.pool import WorkerPool
from mlservice.protocol.tls import worker_identity
from mlservice.settings import Settings
from mlservice.toggles import Toggles


class PredictService:
    """The predict path of one process; belongs to one event loop after ``open``."""

    def __init__(self, settings: Settings) -> None:
        """Load the owner's code and the contracts; raises their errors at once."""
        package = settings.service.package
        code = load_request_code(package)
        contracts = settings.contracts
        self.events = EventLog(settings.events_folder, settings.events.megabytes * 1_000_000)
        self._live = LiveFollower(settings.live_file, settings.live) if settings.live_file else None
        self._router = Router()
        self._toggles = Toggles(self.events)
        self._workers = WorkerPool(
            code.names, worker_identity(settings.internal_tls, settings.folder)
        )
        self._enrichment = Enrichment(load_upstreams(package), contracts / "upstreams")
        self._statistics = StatisticsPoller(self._router)
        self.path = PredictPath(
            settings.gateway,
            code,
            (
                Contract.load(contracts / "request.schema.json"),
                Contract.load(contracts / "response.schema.json"),
            ),
            router=self._router,
            toggles=self._toggles,
            workers=self._workers,
            enrichment=self._enrichment,
            events=self.events,
        )
        self._settings_workers: tuple[ListedWorker, ...] = (
            ListedWorker(address=settings.gateway.worker),
        )
        self._tasks: list[asyncio.Task[None]] = []
        if self._live is not None:
            self._live.subscribe(self._apply)

    @property
    def unavailable_reason(self) -> str | None:
        """Why no request can be answered; None if requests can."""
        return self.path.unavailable_reason

    def on_live(self, apply: Callable[[Live], None]) -> None:
        """Also call ``apply`` with each new content of the live file, if there is one."""
        if self._live is not None:
            self._live.subscribe(apply)

    def reload_soon(self) -> None:
        """Read the live file now; safe in a signal handler."""
        if self._live is not None:
            self._live.look_soon()

    def open(self) -> None:
        """Connect to the workers, and follow the live file if there is one."""
        self.path.open()
        if self._live is None:
            self._workers.apply(self._settings_workers)
            return
        for run in (self._live.run, self._statistics.run):
            self._tasks.append(asyncio.create_task(run()))

    async def close(self) -> None:
        """Finish the batches that were sent, then close all connections and files."""
        await self.path.close()
        for task in self._tasks:
            task.cancel()
        await self._enrichment.close()
        await self._workers.close()
        self._toggles.close()
        self.events.close()

    def _apply(self, live: Live) -> None:
        """Apply a new content of the live file to all parts."""
        if live.workers is not None:
            self._settings_workers = ()  # `[gateway] worker` is only for live files without a list
        self._router.apply(live.routing)
        self._statistics.apply(live.routing)
        self._toggles.apply(live.toggles)
        self._enrichment.apply(live.upstreams)
        self._workers.apply(self._settings_workers if live.workers is None else live.workers)
