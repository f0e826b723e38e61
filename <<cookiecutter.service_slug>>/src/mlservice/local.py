"""Gateway and worker as two processes of this machine: what Nomad does on a cluster.

A process that dies is started again; everything that was started is stopped at the end,
also when an exception or Ctrl-C ends it.
"""

from __future__ import annotations

import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType

from mlservice.address import listen
from mlservice.errors import MlserviceError
from mlservice.settings import load_settings

_READY_SECONDS = 60.0
_POLL_SECONDS = 0.1
_STOP_SECONDS = 20.0
_RESTART_SECONDS = 1.0
_QUICK_SECONDS = 10.0
_MOST_QUICK_ENDS = 3


class LocalService:
    """A context in which the service runs; ``url`` is the address of its gateway."""

    def __init__(
        self, folder: Path, environ: Mapping[str, str], model: str | None, logs: Path | None = None
    ) -> None:
        """Serve the artifact ``model`` from the service in ``folder``, or None for a live file.

        With ``model`` the settings' live file is left alone. Addresses come from the settings
        (or ``free_ports``). Logs go to the files ``gateway.log`` and ``worker.log`` in ``logs``,
        or to standard error.
        """
        self._settings = load_settings(folder, environ)
        gateway = self._settings.gateway
        self.url = f"http://{gateway.host}:{gateway.port}"
        self.worker_address = gateway.worker
        self._folder = folder
        self._environ = {**environ, "MLSERVICE_LIVE__FILE": ""} if model else dict(environ)
        self._logs = logs
        self._commands = {
            "worker": ["serve", "worker", *(["--model", model] if model else [])],
            "gateway": ["serve", "gateway"],
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
            for name in self._commands:
                self._start(name)
            self._wait_until_ready()
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
        """Stop the gateway, then the worker."""
        for name in ("gateway", "worker"):
            process = self.processes.get(name)
            if process is None:
                continue
            process.terminate()
            try:
                process.wait(_STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self._files.close()

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
            self._start(name)

    def _start(self, name: str) -> None:
        log = None
        if self._logs:
            self._logs.mkdir(parents=True, exist_ok=True)
            log = self._files.enter_context((self._logs / f"{name}.log").open("ab"))
        self._started[name] = time.monotonic()
        self.processes[name] = subprocess.Popen(
            [sys.executable, "-m", "mlservice", *self._commands[name]],
            cwd=self._folder,
            env=self._environ,
            stdout=log,
            stderr=log,
        )

    def _wait_until_ready(self) -> None:
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
    with ExitStack() as stack:
        ports = []
        for _ in range(2):
            probe = stack.enter_context(socket.socket())
            probe.bind(("127.0.0.1", 0))
            ports.append(str(probe.getsockname()[1]))
    return {
        **environ,
        "MLSERVICE_GATEWAY__PORT": ports[0],
        "MLSERVICE_GATEWAY__WORKER": f"127.0.0.1:{ports[1]}",
        "MLSERVICE_WORKER__PORT": ports[1],
    }
