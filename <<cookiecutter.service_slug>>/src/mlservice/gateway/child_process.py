"""A gateway process on its parent's side: starts it, reads its metrics and signals it."""

from __future__ import annotations

import asyncio
import socket
import sys
from collections.abc import Mapping
from contextlib import suppress

from prometheus_client.core import Metric

from mlservice.gateway.parent import LENGTH, PARENT_FD, SEND_METRICS, STARTED
from mlservice.observe.snapshots import decode_snapshot

_MAX_ANSWER_SECONDS = 2.0


class ChildProcess:
    """One gateway process; belongs to one event loop."""

    def __init__(
        self,
        process: asyncio.subprocess.Process,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        """Join the parts; ``start`` creates a process."""
        self._process = process
        self._reader, self._writer = reader, writer
        self._fetch_lock = asyncio.Lock()
        self.started = False

    @classmethod
    async def start(cls, environ: Mapping[str, str]) -> ChildProcess:
        """Start ``mlservice serve gateway`` in ``environ``."""
        own, theirs = socket.socketpair()
        with theirs:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "mlservice", "serve", "gateway"),
                env={**environ, PARENT_FD: str(theirs.fileno())},
                pass_fds=[theirs.fileno()],
                process_group=0,  # Ctrl-C in a terminal reaches only the parent, which passes it on
            )
        return cls(process, *await asyncio.open_connection(sock=own))

    async def wait_until_serving(self) -> bool:
        """Wait until the process serves; returns False if it ended before."""
        if not self.started:
            self.started = await self._reader.read(1) == STARTED
        return self.started

    async def wait(self) -> int:
        """Wait until the process ends; returns its exit code, 128 + N for signal N."""
        code = await self._process.wait()
        self.started = False
        self._writer.close()
        return code if code >= 0 else 128 - code

    def signal(self, number: int) -> None:
        """Send a signal, unless the process has ended."""
        with suppress(ProcessLookupError):
            self._process.send_signal(number)

    async def fetch_metrics(self) -> list[Metric] | None:
        """Return the metrics of the process; None if it does not answer."""
        if not self.started:
            return None
        try:
            async with self._fetch_lock, asyncio.timeout(_MAX_ANSWER_SECONDS):
                self._writer.write(SEND_METRICS)
                (length,) = LENGTH.unpack(await self._reader.readexactly(LENGTH.size))
                return decode_snapshot(await self._reader.readexactly(length))
        except (OSError, EOFError):
            return None
