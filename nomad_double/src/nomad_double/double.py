"""Joins the parts of the double: state, scheduler, node, watcher, clock and HTTP.

This is the only module that knows all of them.
"""

from __future__ import annotations

import signal
import threading
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from pathlib import Path

from nomad_double.acl import Acl
from nomad_double.api import Api
from nomad_double.client import Client
from nomad_double.deployments import Deployments
from nomad_double.faults import Faults
from nomad_double.node import Node
from nomad_double.periodic import Periodic
from nomad_double.routes_allocs import AllocRoutes
from nomad_double.routes_cluster import ClusterRoutes
from nomad_double.routes_jobs import JobRoutes
from nomad_double.scheduler import Scheduler
from nomad_double.server import Server
from nomad_double.settings import Settings, TaskContext
from nomad_double.state import State
from nomad_double.timers import Timers
from nomad_double.transport import Transport


def _handle_ignored_signals() -> None:
    """Handle signals that this process ignores, because tasks would inherit that.

    A process that nohup or a shell started in the background ignores some.
    """
    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGINT, signal.SIGHUP):
            if signal.getsignal(number) is signal.SIG_IGN:
                signal.signal(number, lambda *_: None)


class NomadDouble:
    """A cluster of one server and one node.

    A context manager: its tasks are killed at its end.
    """

    def __init__(
        self,
        folder: Path,
        *,
        version: str = "1.10.5",
        port: int = 0,
        memory_mb: int = 16384,
        cpu_mhz: int = 16000,
        oversubscription: bool = True,
        drivers: tuple[str, ...] = ("docker", "raw_exec", "exec"),
        consul: str | None = None,
        consul_template: str | None = None,
        acl: Mapping[str, Collection[str]] | None = None,
        run: Callable[[TaskContext], int] | None = None,
        wrapped_errors: bool = False,
    ) -> None:
        """Start the double. The allocations are in folders below ``folder``.

        ``consul`` (host:port) is where services are registered, and ``consul_template`` is the
        program that renders templates. ``acl`` maps tokens to capabilities; None turns access
        control off. ``run`` is called in place of processes. ``wrapped_errors`` answers as a server
        that is not the leader.
        """
        _handle_ignored_signals()
        self.state = State()
        self.acl = Acl(acl)
        self._timers = Timers("nomad-scheduler")
        node = Node(version, memory_mb, cpu_mhz, drivers, consul is not None)
        settings = Settings(
            folder.absolute(), node, oversubscription=oversubscription, run=run, consul=consul,
            consul_template=consul_template,
        )  # fmt: skip
        self.client = Client(settings)
        scheduler = Scheduler(
            self.state, node, self._timers, self.client.start, self.client.stop, self.client.update
        )
        self.server = Server(self.state, node, scheduler, self.client, version)
        self.server.oversubscription = oversubscription
        deployments = Deployments(self.server, self._timers)
        self._periodic = Periodic(self.server)
        self.faults = Faults(self.server, self.acl, self.close_listener, self.open_listener)
        self._api = Api(self.faults, wrapped_errors=wrapped_errors)
        JobRoutes(self.server, self.acl).add_to(self._api)
        AllocRoutes(self.server, deployments, self.acl).add_to(self._api)
        ClusterRoutes(self.server, self.acl, self.collect_garbage).add_to(self._api)
        self._transport = Transport(port, self._api.handle)

    @property
    def address(self) -> str:
        """The URL of the API."""
        return f"http://127.0.0.1:{self._transport.port}"

    @property
    def requests(self) -> Counter[str]:
        """The number of requests of each route, such as ``GET /v1/job/:id``."""
        return self._api.requests

    def collect_garbage(self) -> None:
        """Collect the garbage, as ``PUT /v1/system/gc`` does, but at once."""
        self.server.collect_garbage()

    def close_listener(self) -> None:
        """Refuse new connections and close those that are open."""
        self._transport.close()

    def open_listener(self) -> None:
        """Listen again."""
        self._transport.open()

    def close(self) -> None:
        """Stop the API, and kill all tasks."""
        self.state.close()
        self._transport.close()
        self._periodic.close()
        self._timers.close()
        self.client.close()

    def __enter__(self) -> NomadDouble:
        """Return the double, which already runs."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the double."""
        self.close()
