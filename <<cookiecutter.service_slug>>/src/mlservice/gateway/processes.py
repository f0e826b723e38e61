"""Runs several gateway processes on one port, under one parent, to use more than one core.

The kernel spreads connections over all processes that listen with SO_REUSEPORT, so no proxy is
needed. The parent starts the processes, restarts those that end, passes signals on, and adds up
their metrics. To callers, Nomad and Prometheus they are one gateway.
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
"""If a process has run for this time, it is restarted after the first, short pause."""
_SNAPSHOT_SECONDS = 1.0
"""If a process is killed, the sums miss at most its counts of this time."""
log = logging.getLogger("mlservice.gateway")


def serve_processes(settings: Settings, environ: Mapping[str, str]) -> int:
    """Serve with ``[gateway] processes`` processes; returns 0, or the code of a failed start.

    Raises ``AddressInUse``.
    """
    log_as_json(settings.service.name)
    gateway = settings.gateway
    listen("gateway", gateway.host, gateway.port).close()  # raises if another process listens
    with listen("gateway", gateway.host, gateway.port, shared=True):  # reserves the port
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
        """Serve until a signal; returns the exit code."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop, number)
        loop.add_signal_handler(signal.SIGHUP, self._reload)
        registry = CollectorRegistry()
        registry.register(_ParentCollector(self, loop))
        metrics.serve_metrics("gateway", self._settings.host, self._settings.metrics_port, registry)
        # Start one process first, so that a failed start is reported once.
        first = await self._start(self._names[0])
        if not await first.wait_until_serving():
            return await self._wait_for_end(self._names[0])
        polling = asyncio.create_task(self._poll())
        codes = await asyncio.gather(*(self._supervise(name) for name in self._names))
        polling.cancel()
        return max(codes)

    async def collect(self) -> list[Metric]:
        """Return the current sums and the parent's own metrics."""
        await self._fetch_all()
        own = (metrics.GATEWAY_PROCESSES, metrics.GATEWAY_RESTARTS)
        shown = [metric for each in own for metric in each.collect()]
        names = {metric.name for metric in shown}
        return [*shown, *(metric for metric in self._sum.collect() if metric.name not in names)]

    async def _supervise(self, name: str) -> int:
        """Restart a process each time that it ends; returns the exit code of the last one."""
        loop = asyncio.get_running_loop()
        pause = _FIRST_PAUSE_SECONDS
        while True:
            process = self._processes.get(name) or await self._start(name)
            began = loop.time()
            served = await process.wait_until_serving()
            self._update_count()
            if name in self._to_reload:
                self._to_reload.remove(name)
                process.signal(signal.SIGHUP)
            code = await self._wait_for_end(name)
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

    async def _wait_for_end(self, name: str) -> int:
        code = await self._processes[name].wait()
        del self._processes[name]
        self._sum.end(name)
        self._update_count()
        return code

    async def _poll(self) -> None:
        while True:
            await asyncio.sleep(_SNAPSHOT_SECONDS)
            await self._fetch_all()

    async def _fetch_all(self) -> None:
        await asyncio.gather(*(self._fetch(*item) for item in self._processes.items()))

    async def _fetch(self, name: str, process: ChildProcess) -> None:
        snapshot = await process.fetch_metrics()
        # Meanwhile a new process may have this name; the snapshot is not of that one.
        if snapshot is not None and self._processes.get(name) is process:
            self._sum.update(name, snapshot)

    def _update_count(self) -> None:
        metrics.GATEWAY_PROCESSES.set(sum(p.started for p in self._processes.values()))

    def _stop(self, number: int) -> None:
        """Stop all processes; a second signal stops them at once."""
        self._stopping.set()
        self._signal_all(number)

    def _reload(self) -> None:
        """Make all processes read the live file; SIGHUP could kill one that is still starting."""
        for name, process in self._processes.items():
            if process.started:
                process.signal(signal.SIGHUP)
            else:
                self._to_reload.add(name)

    def _signal_all(self, number: int) -> None:
        for process in self._processes.values():
            process.signal(number)


class _ParentCollector(Collector):
    """The metrics on the parent's port; prometheus_client collects them in its own threads."""

    def __init__(self, parent: _Parent, loop: asyncio.AbstractEventLoop) -> None:
        self._parent = parent
        self._loop = loop

    def collect(self) -> Iterator[Metric]:
        """See ``Collector``."""
        yield from asyncio.run_coroutine_threadsafe(self._parent.collect(), self._loop).result()
