"""The gateway and a worker on this machine.

A process that ends is started again. Everything that was started is stopped at the end, also after
an exception or Ctrl-C.
"""

from __future__ import annotations

import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType

from mlservice.address import listen
from mlservice.errors import MlserviceError
from mlservice.local.ports import POLL_SECONDS, START_SECONDS, wait_until_listening
from mlservice.local.process import Command, ServiceProcess
from mlservice.settings import load_settings

_RESTART_SECONDS = 1.0
_LIVE_FILE = "MLSERVICE_LIVE__FILE"


class LocalService:
    """A context in which the service runs; ``url`` is the address of its gateway."""

    def __init__(
        self,
        folder: Path,
        environ: Mapping[str, str],
        model: str | None,
        logs: Path | None = None,
        extra: Mapping[str, Command] | None = None,
        live: Path | None = None,
    ) -> None:
        """Serve the artifact ``model`` from the service in ``folder``, or None for a live file.

        With a ``model`` the live file of the settings is not used; ``live`` is then the gateway's.
        ``extra`` are more processes, by name. Addresses come from the settings (or from
        ``free_ports``). Each process writes NAME.log in ``logs``, or to standard error.
        """
        self._settings = load_settings(folder, environ)
        scheme = "https" if self._settings.access.tls_cert else "http"
        gateway = self._settings.gateway
        self.url = f"{scheme}://{gateway.host}:{gateway.port}"
        self.worker_address = gateway.worker
        shared = {**environ, _LIVE_FILE: ""} if model else dict(environ)
        commands = {**(extra or {}), **_commands(model, live)}
        self._processes = {
            name: ServiceProcess(name, command, folder, shared, logs and logs / f"{name}.log")
            for name, command in commands.items()
        }

    def __enter__(self) -> LocalService:
        """Start all processes, and wait until the gateway is ready.

        Raises ``AddressInUse`` if a port is taken, ``MlserviceError`` if a process fails.
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
        for process in reversed(self._processes.values()):
            process.stop()

    @property
    def processes(self) -> dict[str, subprocess.Popen[bytes]]:
        """The processes that were started, by name."""
        return {name: each.handle for name, each in self._processes.items() if each.handle}

    def start(self, name: str) -> None:
        """Start one of the processes, which may have run before."""
        self._processes[name].start()

    def stop(self, name: str) -> None:
        """Stop one of the processes."""
        self._processes[name].stop()

    def supervise(self) -> None:
        """Restart every process that ends, until interrupted."""
        while True:
            self.restart_dead()
            time.sleep(_RESTART_SECONDS)

    def restart_dead(self) -> None:
        """Restart the processes that have ended.

        Raises ``MlserviceError`` for one that ends soon after its start, again and again.
        """
        for process in self._processes.values():
            if ended := process.restart_if_ended():
                print(f"{ended}: it is started again", flush=True)

    def wait_until_ready(self) -> None:
        """Wait until requests can be answered; raises ``MlserviceError`` after a minute."""
        if self._settings.access.tls_cert:  # only clients with a certificate may ask for health
            wait_until_listening(self.url)
            return
        end = time.monotonic() + START_SECONDS
        while time.monotonic() < end:
            self._raise_if_ended()
            try:
                with urllib.request.urlopen(f"{self.url}/ready", timeout=2):
                    return
            except (urllib.error.URLError, OSError):
                time.sleep(POLL_SECONDS)
        raise MlserviceError(f"{self.url} was not ready after {START_SECONDS:.0f} s")

    def _start_all(self) -> None:
        """Start all processes; those with an address first, for the others need them."""
        needed = [each for each in self._processes.values() if each.command.address]
        for process in needed:
            process.start()
        for process in needed:
            wait_until_listening(process.command.address)
        for process in self._processes.values():
            if process not in needed:
                process.start()

    def _raise_if_ended(self) -> None:
        for process in self._processes.values():
            if process.exit_code is not None:
                raise MlserviceError(f"{process.describe_exit()}{process.last_lines()}")


def _commands(model: str | None, live: Path | None) -> dict[str, Command]:
    worker = ("serve", "worker", *(("--model", model) if model else ()))
    gateway_environ = {_LIVE_FILE: str(live)} if live else {}
    return {
        "worker": Command(worker),
        "gateway": Command(("serve", "gateway"), gateway_environ),
    }
