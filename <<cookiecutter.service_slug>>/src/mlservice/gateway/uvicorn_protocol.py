"""Sends the head and the body of an answer together, and ends the work for a caller who has left.

uvicorn hands them to the transport one after the other, and each is a call of the system; one
call for both answers a tenth more requests (docs/platform-decisions.md, 0006).
"""

from __future__ import annotations

import asyncio
from typing import Any, cast

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

_HEAD = b"HTTP/1.1 "
_INTERIM = b"HTTP/1.1 1"


TASK = "mlservice.task"
"""Key of the ASGI scope: the task that answers, if it may be cancelled when its caller leaves."""


class GatewayProtocol(HttpToolsProtocol):
    """uvicorn's protocol, with a transport that holds a head until what follows it."""

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
        """Send the head of an answer that has no body; uvicorn calls this at each one's end."""
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
