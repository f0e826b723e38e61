"""Several gateway processes on one port, under one parent.

The kernel spreads connections over all processes that listen with SO_REUSEPORT, so no process
stands in front of the others. The parent only starts them, starts those again that end, passes
signals on, and adds up their metrics. To callers, Nomad and Prometheus they are one gateway.
"""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import Iterator, Mapping
from contextlib import suppress

from prometheus_client import CollectorRegistry
from prometheus_client.core import Metric
from prometheus_client.registry import Collector

from mlservice.address import listen
from mlservice.gateway.child_process import ChildProcess
from mlservice.observe import metrics
from mlservice.observe.logs import log_as_json
from mlservice.observe.snapshots import MetricsSum
from mlservice.settings import Settings

_FIRST_PAUSE_SECONDS = 0.5
_MAX_PAUSE_SECONDS = 30.0
_STABLE_SECONDS = 30.0
"""After so long a life, a process is started again after the first, short pause."""
_SNAPSHOT_SECONDS = 1.0
"""The sums miss at most what a killed process counted in this time."""
log = logging.getLogger("mlservice.gateway")


def serve_processes(settings: Settings, environ: Mapping[str, str]) -> int:
    """Serve by ``[gateway] processes``; returns 0 after a stop, or the code of a failed start.

    Raises ``AddressInUse``.
    """
    log_as_json(settings.service.name)
    gateway = settings.gateway
    listen("gateway", gateway.host, gateway.port).close()  # refuses if anybody else listens
    with listen("gateway", gateway.host, gateway.port, shared=True):  # keeps others off the port
        return asyncio.run(_Parent(settings, environ).run())


class _Parent:
    """The processes, by name; belongs to one event loop."""

    def __init__(self, settings: Settings, environ: Mapping[str, str]) -> None:
        self._settings = settings.gateway
        self._environ = {
            **environ,
            "MLSERVICE_GATEWAY__PROCESSES": "1",
            "MLSERVICE_GATEWAY__METRICS_PORT": "0",
        }
        self._names = [str(number + 1) for number in range(settings.gateway.processes)]
        self._processes: dict[str, ChildProcess] = {}
        self._sum = MetricsSum()
        self._to_reload: set[str] = set()
        self._stopping = asyncio.Event()

    async def run(self) -> int:
        """Serve until a signal ends it; returns the exit code."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop, number)
        loop.add_signal_handler(signal.SIGHUP, self._reload)
        registry = CollectorRegistry()
        registry.register(_Port(self, loop))
        metrics.serve_metrics("gateway", self._settings.host, self._settings.metrics_port, registry)
        # One alone at first: if none can start, its reason is written once.
        first = await self._start(self._names[0])
        if not await first.serves():
            return await self._end(self._names[0])
        polling = asyncio.create_task(self._poll())
        codes = await asyncio.gather(*(self._keep(name) for name in self._names))
        polling.cancel()
        return max(codes)

    async def collect(self) -> list[Metric]:
        """The sums as they are now, and the parent's own metrics."""
        await self._fetch_all()
        own = (metrics.GATEWAY_PROCESSES, metrics.GATEWAY_RESTARTS)
        shown = [metric for each in own for metric in each.collect()]
        names = {metric.name for metric in shown}
        return [*shown, *(metric for metric in self._sum.collect() if metric.name not in names)]

    async def _keep(self, name: str) -> int:
        """Start a process again whenever it ends; returns the last one's exit code."""
        loop = asyncio.get_running_loop()
        pause = _FIRST_PAUSE_SECONDS
        while True:
            process = self._processes.get(name) or await self._start(name)
            began = loop.time()
            served = await process.serves()
            self._count()
            if name in self._to_reload:
                self._to_reload.remove(name)
                process.signal(signal.SIGHUP)
            code = await self._end(name)
            if self._stopping.is_set():
                return code if served else 0
            if loop.time() - began > _STABLE_SECONDS:
                pause = _FIRST_PAUSE_SECONDS
            log.error("gateway process %s ended with %d: starts again in %g s", name, code, pause)
            with suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), pause)
                return 0
            pause = min(2 * pause, _MAX_PAUSE_SECONDS)
            metrics.GATEWAY_RESTARTS.inc()

    async def _start(self, name: str) -> ChildProcess:
        process = self._processes[name] = await ChildProcess.start(self._environ)
        if self._stopping.is_set():
            process.signal(signal.SIGTERM)
        return process

    async def _end(self, name: str) -> int:
        code = await self._processes[name].wait()
        del self._processes[name]
        self._sum.end(name)
        self._count()
        return code

    async def _poll(self) -> None:
        while True:
            await asyncio.sleep(_SNAPSHOT_SECONDS)
            await self._fetch_all()

    async def _fetch_all(self) -> None:
        await asyncio.gather(*(self._fetch(*item) for item in self._processes.items()))

    async def _fetch(self, name: str, process: ChildProcess) -> None:
        snapshot = await process.fetch_metrics()
        # Another process may have this name by now, which has counted nothing of this.
        if snapshot is not None and self._processes.get(name) is process:
            self._sum.update(name, snapshot)

    def _count(self) -> None:
        metrics.GATEWAY_PROCESSES.set(sum(p.started for p in self._processes.values()))

    def _stop(self, number: int) -> None:
        """Stop all processes; a second signal stops them at once."""
        self._stopping.set()
        self._signal_all(number)

    def _reload(self) -> None:
        """Have all processes read the live file; one that starts could still die of SIGHUP."""
        for name, process in self._processes.items():
            if process.started:
                process.signal(signal.SIGHUP)
            else:
                self._to_reload.add(name)

    def _signal_all(self, number: int) -> None:
        for process in self._processes.values():
            process.signal(number)


class _Port(Collector):
    """What the parent's port shows; prometheus_client collects it in threads of its own."""

    def __init__(self, parent: _Parent, loop: asyncio.AbstractEventLoop) -> None:
        self._parent = parent
        self._loop = loop

    def collect(self) -> Iterator[Metric]:
        """See ``Collector``."""
        yield from asyncio.run_coroutine_threadsafe(self._parent.collect(), self._loop).result()
