"""Loads a server with wrk and checks its answers; wrk sends real requests in turn (rotate.lua)."""

from __future__ import annotations

import http.client
import json
import os
import shutil
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.errors import BenchError
from bench.servers import Contender, Server

_SCRIPT = Path(__file__).with_name("rotate.lua")
_TOLERANCE = 0.00011  # answers are rounded to four places, and halves may go either way


@dataclass(frozen=True)
class Turn:
    """One run of wrk: rates in requests a second, latencies in milliseconds."""

    rate: float
    p50: float
    p99: float
    errors: int
    requests: int
    seconds: float
    cpu: dict[str, float]

    @property
    def per_cpu_second(self) -> float:
        """Requests for each processor second of the server's processes."""
        return self.requests / max(self.cpu["all"], 0.01)


def require_wrk() -> None:
    """Raise ``BenchError`` if wrk is missing."""
    if not shutil.which("wrk"):
        raise BenchError("wrk is missing: run `apt-get install wrk`")


def measure(
    server: Server, bodies: Path, *, connections: int, seconds: float, rate: float = 0
) -> Turn:
    """Load ``server`` for some ``seconds`` with its file in the folder ``bodies``.

    ``rate`` is in requests a second; 0 sends as fast as possible.
    """
    before = server.cpu_seconds()
    file = bodies / server.contender.bodies
    line = _wrk(server.contender.url, file, connections, seconds, rate)
    after = server.cpu_seconds()
    requests, micros, p50, p99, errors = (int(field) for field in line.split()[1:])
    cpu = {name: after[name] - before[name] for name in after}
    rate_reached = requests / (micros / 1e6)
    return Turn(rate_reached, p50 / 1e3, p99 / 1e3, errors, requests, micros / 1e6, cpu)


def _wrk(url: str, bodies: Path, connections: int, seconds: float, rate: float) -> str:
    command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds:.0f}s", "-s", str(_SCRIPT), url]
    environ = {**os.environ, "BENCH_BODIES": str(bodies), "BENCH_RATE": str(rate)}
    done = subprocess.run(command, env=environ, capture_output=True, text=True, check=False)
    for line in done.stdout.splitlines():
        if line.startswith("BENCH "):
            return line
    raise BenchError(f"{' '.join(command)} ended with {done.returncode}:\n{done.stderr}")


def check(
    contender: Contender,
    bodies: Sequence[bytes],
    expected: Sequence[float],
    read: Callable[[Any], float],
) -> None:
    """Send every body once; raises ``BenchError`` at the first wrong answer."""
    connection = http.client.HTTPConnection("127.0.0.1", contender.port, timeout=30)
    for body, right in zip(bodies, expected, strict=True):
        connection.request("POST", contender.path, body, {"Content-Type": "application/json"})
        response = connection.getresponse()
        content = response.read()
        if response.status != 200 or abs(read(json.loads(content)) - right) > _TOLERANCE:
            raise BenchError(
                f"{contender.name} answers {response.status} {content[:300]!r} to {body!r} "
                f"but the model's score is {right}"
            )
    connection.close()


def read_answer(answer: Any) -> float:
    """Return the score in a response of the service."""
    return float(answer["prediction"]["late_probability"])


def write_bodies(path: Path, bodies: Sequence[bytes]) -> Path:
    """Write the file that wrk's script reads: one body a line."""
    path.write_bytes(b"\n".join(bodies) + b"\n")
    return path
