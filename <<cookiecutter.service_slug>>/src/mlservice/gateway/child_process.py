"""A gateway process as its parent sees it: started, asked for its metrics, signalled, ended."""

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
    """A process that ``start`` made; belongs to one event loop."""

    def __init__(
        self,
        process: asyncio.subprocess.Process,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        """Use ``start`` instead."""
        self._process = process
        self._reader, self._writer = reader, writer
        self._fetching = asyncio.Lock()
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
                process_group=0,  # a terminal's Ctrl-C reaches the parent alone, which passes it on
            )
        return cls(process, *await asyncio.open_connection(sock=own))

    async def serves(self) -> bool:
        """Wait until it serves; False if it ended before."""
        if not self.started:
            self.started = await self._reader.read(1) == STARTED
        return self.started

    async def wait(self) -> int:
        """Wait until it ends; returns its exit code, 128 + N if signal N ended it."""
        code = await self._process.wait()
        self.started = False
        self._writer.close()
        return code if code >= 0 else 128 - code

    def signal(self, number: int) -> None:
        """Send a signal, unless it has ended."""
        with suppress(ProcessLookupError):
            self._process.send_signal(number)

    async def fetch_metrics(self) -> list[Metric] | None:
        """What it has counted so far; None if it does not answer."""
        if not self.started:
            return None
        try:
            async with self._fetching, asyncio.timeout(_MAX_ANSWER_SECONDS):
                self._writer.write(SEND_METRICS)
                (length,) = LENGTH.unpack(await self._reader.readexactly(LENGTH.size))
                return decode_snapshot(await self._reader.readexactly(length))
        except (OSError, EOFError):
            return None
