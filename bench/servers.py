"""Starts the contenders, each in a session of its own, and stops all their processes."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from bench.errors import BenchError
from bench.processes import family, kill, usage

_READY_SECONDS = 90.0
_STOP_SECONDS = 15.0


@dataclass(frozen=True)
class Contender:
    """How to start a server, and where it listens; ``start`` is the command line.

    ``shares`` names a process by a part of its command line, to split processor time.
    """

    name: str
    start: Sequence[str]
    port: int
    folder: Path
    environ: Mapping[str, str]
    log: Path
    path: str = "/v1/predict"
    ready: str = "/ready"
    shares: tuple[str, ...] = ()
    bodies: str = "bodies.txt"

    @property
    def url(self) -> str:
        """The URL for predictions."""
        return f"http://127.0.0.1:{self.port}{self.path}"


def free_port() -> int:
    """Return a port that no process listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class Server:
    """A context in which a contender runs and is ready."""

    def __init__(self, contender: Contender) -> None:
        """Keep ``contender``; entering the context starts it."""
        self.contender = contender
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Server:
        """Start it and wait until it is ready; raises ``BenchError``."""
        _refuse_taken(self.contender)
        with self.contender.log.open("wb") as log:
            self._process = subprocess.Popen(
                list(self.contender.start),
                cwd=self.contender.folder,
                env=dict(self.contender.environ),
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        try:
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
        """Stop the leader, then kill the remaining processes of its session."""
        if self._process is None:
            return
        begun = family(self._process.pid)
        self._process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(_STOP_SECONDS)
        kill(begun | family(self._process.pid))
        self._process.wait()

    def cpu_seconds(self) -> dict[str, float]:
        """Return processor seconds so far: "all", and one entry for each share."""
        assert self._process is not None, "not started"  # noqa: S101  # a bug of the bench
        found = dict.fromkeys(("all", *self.contender.shares), 0.0)
        for process in family(self._process.pid):
            seconds, command = usage(process)
            found["all"] += seconds
            for share in self.contender.shares:
                found[share] += seconds if share in command else 0.0
        return found

    def _wait_until_ready(self) -> None:
        contender, process = self.contender, self._process
        end = time.monotonic() + _READY_SECONDS
        while time.monotonic() < end:
            if process is None or process.poll() is not None:
                break
            with contextlib.suppress(urllib.error.URLError, OSError):
                address = f"http://127.0.0.1:{contender.port}{contender.ready}"
                with urllib.request.urlopen(address, timeout=2):
                    return
            time.sleep(0.1)
        words = contender.log.read_text("utf-8", errors="replace").strip().splitlines()[-12:]
        raise BenchError(f"{contender.name} did not become ready:\n" + "\n".join(words))


def _refuse_taken(contender: Contender) -> None:
    """Raise ``BenchError`` if the port is taken, or another server would be measured."""
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", contender.port))
        except OSError as error:
            raise BenchError(
                f"{contender.name}: port {contender.port} is taken ({error.strerror}): stop the "
                "process that listens there, or start the bench again"
            ) from error
