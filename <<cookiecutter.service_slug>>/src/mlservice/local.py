"""Gateway and worker as two processes of this machine: what Nomad does on a cluster.

A process that dies is started again; everything that was started is stopped at the end,
also when an exception or Ctrl-C ends it.
"""

from __future__ import annotations

import contextlib
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from urllib.parse import urlsplit

from mlservice.address import listen
from mlservice.errors import MlserviceError
from mlservice.settings import load_settings
from mlservice.shutdown import SHUTDOWN

_READY_SECONDS = 60.0
_POLL_SECONDS = 0.1
_RESTART_SECONDS = 1.0
_QUICK_SECONDS = 10.0
_MOST_QUICK_ENDS = 3


@dataclass(frozen=True)
class Other:
    """A process beside gateway and worker: ``mlservice ARGUMENTS`` with more environment.

    Gateway and worker are started once it listens on its ``place`` (a URL or host:port).
    """

    arguments: tuple[str, ...]
    environ: Mapping[str, str] = field(default_factory=dict)
    place: str = ""


class LocalService:
    """A context in which the service runs; ``url`` is the address of its gateway."""

    def __init__(
        self,
        folder: Path,
        environ: Mapping[str, str],
        model: str | None,
        logs: Path | None = None,
        others: Mapping[str, Other] | None = None,
        live: Path | None = None,
    ) -> None:
        """Serve the artifact ``model`` from the service in ``folder``, or None for a live file.

        With ``model`` the settings' live file is left alone, and ``live`` is the gateway's.
        ``others`` are more processes, by name. Addresses come from the settings
        (or ``free_ports``). Logs go to the files ``gateway.log`` and ``worker.log`` in ``logs``,
        or to standard error.
        """
        self._settings = load_settings(folder, environ)
        gateway = self._settings.gateway
        scheme = "https" if self._settings.access.tls_cert else "http"
        self.url = f"{scheme}://{gateway.host}:{gateway.port}"
        self.worker_address = gateway.worker
        self._folder = folder
        self._environ = {**environ, "MLSERVICE_LIVE__FILE": ""} if model else dict(environ)
        self._logs = logs
        worker = ("serve", "worker", *(("--model", model) if model else ()))
        self._commands = {
            **(others or {}),
            "worker": Other(worker),
            "gateway": Other(
                ("serve", "gateway"), {"MLSERVICE_LIVE__FILE": str(live)} if live else {}
            ),
        }
        self._files = ExitStack()
        self._started: dict[str, float] = {}
        self._quick_ends: dict[str, int] = {}
        self.processes: dict[str, subprocess.Popen[bytes]] = {}

    def __enter__(self) -> LocalService:
        """Start both and wait until the gateway is ready.

        Raises ``AddressInUse`` where somebody else listens, ``MlserviceError`` where one fails.
        """
        worker, gateway = self._settings.worker, self._settings.gateway
        listen("worker", worker.host, worker.port).close()
        listen("gateway", gateway.host, gateway.port).close()
        try:
            self._start_all()
            self.wait_until_ready()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Stop the gateway, then the worker, then the others."""
        for name in reversed(self._commands):
            if name in self.processes:
                self.stop(name)
        self._files.close()

    def stop(self, name: str) -> None:
        """Stop one of the processes."""
        process = self.processes[name]
        process.terminate()
        try:
            process.wait(SHUTDOWN.kill)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def supervise(self) -> None:
        """Start anew whatever dies, until interrupted."""
        while True:
            self.restart_dead()
            time.sleep(_RESTART_SECONDS)

    def restart_dead(self) -> None:
        """Start each process that has ended once more.

        Raises ``MlserviceError`` for one that ends again and again just after its start.
        """
        for name, process in list(self.processes.items()):
            if process.poll() is None:
                continue
            quick = time.monotonic() - self._started[name] < _QUICK_SECONDS
            self._quick_ends[name] = self._quick_ends.get(name, 0) + 1 if quick else 0
            ended = f"the {name} ended with {process.returncode}"
            if self._quick_ends[name] >= _MOST_QUICK_ENDS:
                raise MlserviceError(f"{ended} again and again{self._last_words(name)}")
            print(f"{ended}: it is started again", flush=True)
            self.start(name)

    def _start_all(self) -> None:
        """Start every process, those that others need before them."""
        places = {name: other.place for name, other in self._commands.items() if other.place}
        for name in places:
            self.start(name)
        for place in places.values():
            _wait_until_it_listens(place)
        for name in self._commands:
            if name not in places:
                self.start(name)

    def start(self, name: str) -> None:
        """Start one of the processes, which may have run before."""
        log = None
        if self._logs:
            self._logs.mkdir(parents=True, exist_ok=True)
            log = self._files.enter_context((self._logs / f"{name}.log").open("ab"))
        self._started[name] = time.monotonic()
        self.processes[name] = subprocess.Popen(
            [sys.executable, "-m", "mlservice", *self._commands[name].arguments],
            cwd=self._folder,
            env={**self._environ, **self._commands[name].environ},
            stdout=log,
            stderr=log,
        )

    def wait_until_ready(self) -> None:
        """Wait until requests can be answered; raises ``MlserviceError`` where that never comes."""
        if self._settings.access.tls_cert:  # whose health only those can ask who are let in
            _wait_until_it_listens(self.url)
            return
        end = time.monotonic() + _READY_SECONDS
        while time.monotonic() < end:
            for name, process in self.processes.items():
                if process.poll() is not None:
                    raise MlserviceError(
                        f"the {name} ended with {process.returncode}{self._last_words(name)}"
                    )
            try:
                with urllib.request.urlopen(f"{self.url}/ready", timeout=2):
                    return
            except (urllib.error.URLError, OSError):
                time.sleep(_POLL_SECONDS)
        raise MlserviceError(f"{self.url} was not ready after {_READY_SECONDS:.0f} s")

    def _last_words(self, name: str) -> str:
        log = self._logs and self._logs / f"{name}.log"
        if not log or not log.exists():
            return ": see above"
        lines = log.read_text("utf-8", errors="replace").strip().splitlines()[-5:]
        return f"; its log is {log}\n" + "\n".join(f"    | {line}" for line in lines)


def free_ports(environ: Mapping[str, str]) -> dict[str, str]:
    """``environ`` with free ports of this machine for gateway and worker."""
    gateway, worker = find_ports(2)
    return {
        **environ,
        "MLSERVICE_GATEWAY__PORT": gateway,
        "MLSERVICE_GATEWAY__WORKER": f"127.0.0.1:{worker}",
        "MLSERVICE_WORKER__PORT": worker,
    }


def _wait_until_it_listens(place: str) -> None:
    """Wait for a process at a URL or host:port; raises ``MlserviceError`` after a minute."""
    parts = urlsplit(place if "://" in place else f"tcp://{place}")
    end = time.monotonic() + _READY_SECONDS
    while time.monotonic() < end:
        with contextlib.suppress(OSError):
            socket.create_connection((parts.hostname or "", parts.port or 0), timeout=2).close()
            return
        time.sleep(_POLL_SECONDS)
    raise MlserviceError(f"nobody listens on {place} after {_READY_SECONDS:.0f} s")


def find_ports(count: int) -> list[str]:
    """Ports of this machine that nobody listens on."""
    with ExitStack() as stack:
        probes = [stack.enter_context(socket.socket()) for _ in range(count)]
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [str(probe.getsockname()[1]) for probe in probes]
