"""Ports of this machine: finds free ones, and waits until a process listens on one."""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Mapping
from contextlib import ExitStack
from urllib.parse import urlsplit

from mlservice.errors import MlserviceError

POLL_SECONDS = 0.1
START_SECONDS = 60.0
"""Time in which a process must listen, and the gateway must be ready."""


def find_ports(count: int) -> list[str]:
    """Return ports of this machine that no process listens on."""
    with ExitStack() as stack:
        probes = [stack.enter_context(socket.socket()) for _ in range(count)]
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [str(probe.getsockname()[1]) for probe in probes]


def free_ports(environ: Mapping[str, str]) -> dict[str, str]:
    """Return ``environ`` with free ports of this machine for the gateway and the worker."""
    gateway, worker = find_ports(2)
    return {
        **environ,
        "MLSERVICE_GATEWAY__PORT": gateway,
        "MLSERVICE_GATEWAY__WORKER": f"127.0.0.1:{worker}",
        "MLSERVICE_WORKER__PORT": worker,
    }


def wait_until_listening(address: str) -> None:
    """Wait for a process at a URL or host:port; raises ``MlserviceError`` after a minute."""
    parts = urlsplit(address if "://" in address else f"tcp://{address}")
    end = time.monotonic() + START_SECONDS
    while time.monotonic() < end:
        with contextlib.suppress(OSError):
            socket.create_connection((parts.hostname or "", parts.port or 0), timeout=2).close()
            return
        time.sleep(POLL_SECONDS)
    raise MlserviceError(f"nothing listens on {address} after {START_SECONDS:.0f} s")
