"""Writes the head and the body of a response together, and cancels the work if its caller leaves.

uvicorn writes head and body separately, and each write is a system call. One write for both answers
a tenth more requests (docs/platform-decisions.md, 0006).
"""

from __future__ import annotations

import asyncio
from typing import Any, cast

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

_HEAD = b"HTTP/1.1 "
_INTERIM = b"HTTP/1.1 1"


TASK = "mlservice.task"
"""Key in the ASGI scope for the task that answers; it is cancelled if the caller leaves."""


class GatewayProtocol(HttpToolsProtocol):
    """uvicorn's protocol, with a transport that holds back a head until its body."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin a connection; the loop calls this."""
        self._joined = _JoiningTransport(transport)
        super().connection_made(cast(asyncio.Transport, self._joined))

    def connection_lost(self, exc: Exception | None) -> None:
        """End a connection; the loop calls this."""
        super().connection_lost(exc)
        if self.scope and (task := cast("asyncio.Task[None] | None", self.scope.get(TASK))):
            task.cancel()

    def on_response_complete(self) -> None:
        """Write the head of a response without a body; uvicorn calls this after each response."""
        self._joined.flush()
        super().on_response_complete()


class _JoiningTransport:
    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._write = transport.write
        self._head = b""
        self.is_closing = transport.is_closing

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def write(self, data: bytes) -> None:
        if self._head:
            data, self._head = self._head + data, b""
        elif data.startswith(_HEAD) and not data.startswith(_INTERIM):
            self._head = data
            return
        self._write(data)

    def flush(self) -> None:
        if self._head:
            self.write(b"")

    def close(self) -> None:
        self.flush()
        self._transport.close()
