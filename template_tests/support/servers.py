"""Real servers for the tests: started on free ports, in a temporary folder, stopped at the end."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

_READY_SECONDS = 20.0


def require(command: str) -> str:
    """The path of a fetched command; a test that needs it fails where it is missing."""
    found = shutil.which(command)
    assert found, f"{command} is missing: run these tests by `make test-servers`, which fetches it"
    return found


def free_ports(count: int) -> list[int]:
    """Ports of this machine that nobody listens on."""
    with ExitStack() as stack:
        probes = [stack.enter_context(socket.socket()) for _ in range(count)]
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [probe.getsockname()[1] for probe in probes]


@dataclass
class Consul:
    """A Consul agent in dev mode."""

    folder: Path
    config: dict[str, object]

    def __post_init__(self) -> None:
        """Choose its ports, which it keeps over a restart."""
        self.ports = dict(zip(("http", "server", "lan", "wan"), free_ports(4), strict=True))
        self.address = f"127.0.0.1:{self.ports['http']}"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it and wait for a leader."""
        self.folder.mkdir(parents=True, exist_ok=True)
        config = self.folder / "config.json"
        config.write_text(json.dumps(self.config), "utf-8")
        ports = self.ports
        with (self.folder / "consul.log").open("ab") as log:
            self._process = subprocess.Popen(
                [
                    require("consul"), "agent", "-dev", "-bind=127.0.0.1", "-client=127.0.0.1",
                    f"-http-port={ports['http']}", "-dns-port=-1", "-grpc-port=-1",
                    f"-server-port={ports['server']}", f"-serf-lan-port={ports['lan']}",
                    f"-serf-wan-port={ports['wan']}", f"-config-file={config}",
                ],
                stdout=log, stderr=log,
                env={key: os.environ[key] for key in ("PATH", "HOME") if key in os.environ},
            )  # fmt: skip
        end = time.monotonic() + _READY_SECONDS
        while time.monotonic() < end:
            assert self._process.poll() is None, (self.folder / "consul.log").read_text("utf-8")
            try:
                url = f"http://{self.address}/v1/status/leader"
                with urllib.request.urlopen(url, timeout=2) as answer:
                    if len(answer.read()) > 2:
                        return
            except (urllib.error.URLError, OSError):
                pass
            time.sleep(0.05)
        raise AssertionError("Consul has no leader")

    @contextmanager
    def away(self) -> Iterator[None]:
        """Let it answer nobody for a while; it forgets nothing."""
        assert self._process
        self._process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self._process.send_signal(signal.SIGCONT)

    def stop(self) -> None:
        """Stop it; in dev mode it forgets everything."""
        if self._process:
            self._process.terminate()
            self._process.wait(20)
            self._process = None


@contextmanager
def consul_server(folder: Path, **config: object) -> Iterator[Consul]:
    """A running Consul."""
    server = Consul(folder, config)
    server.start()
    try:
        yield server
    finally:
        server.stop()
