"""uvicorn's HTTP protocol, which answers the hot routes by itself and hands the rest to FastAPI.

A task, a scope and two coroutines for each request cost more than everything that the gateway does
with it (docs/platform-decisions.md, 0006). uvicorn still owns the connections: parsing, keep-alive,
the order of pipelined responses and shutdown are its own.
"""

from __future__ import annotations

import asyncio
from typing import Any, cast

from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState

from mlservice.gateway.hot_request import Head, HotRequest, HotRoutes


class GatewayProtocol(HttpToolsProtocol):
    """One connection to the gateway."""

    def __init__(
        self,
        routes: HotRoutes,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        """Answer ``routes``; uvicorn gives the rest."""
        super().__init__(config, server_state, app_state, _loop)
        self._routes = routes
        self._waiting: HotRequest | None = None

    def write(self, data: bytes, *, close: bool) -> None:
        """See ``Connection``."""
        self.transport.write(data)
        if close:
            self.transport.close()

    def default_headers(self) -> list[tuple[bytes, bytes]]:
        """See ``Connection``."""
        return self.server_state.default_headers

    def connection_lost(self, exc: Exception | None) -> None:
        """End a connection; the loop calls this."""
        for cycle, _ in self.pipeline:
            _abandon(cycle)
        _abandon(self.cycle)
        super().connection_lost(exc)

    def on_headers_complete(self) -> None:
        """Begin a request; the parser calls this."""
        endpoint = self._routes.find(self.url)
        if endpoint is None:
            super().on_headers_complete()
            return
        keep_alive = self.parser.get_http_version() != "1.0" and self.parser.should_keep_alive()
        head = Head(
            self.parser.get_method(), dict(self.headers), keep_alive, self.expect_100_continue
        )
        before, request = self.cycle, HotRequest(self._routes, endpoint, head, self)
        self.cycle = cast(RequestResponseCycle, request)
        if before is None or before.response_complete:
            self._start(request)
        else:
            self.flow.pause_reading()
            self.pipeline.appendleft((self.cycle, self.app))

    def on_body(self, body: bytes) -> None:
        """Take a part of a request's body; the parser calls this."""
        if isinstance(self.cycle, HotRequest):
            self.cycle.add(body)
        else:
            super().on_body(body)

    def on_message_complete(self) -> None:
        """End a request; the parser calls this."""
        if isinstance(self.cycle, HotRequest):
            self.cycle.complete()
        else:
            super().on_message_complete()

    def resume_writing(self) -> None:
        """Go on with a caller that reads again; the loop calls this."""
        super().resume_writing()
        if (request := self._waiting) is not None:
            self._waiting = None
            request.start()

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        """Start the next request of a pipeline; uvicorn calls this after each response."""
        if isinstance(cycle, HotRequest):
            # Not at once: a long pipeline would be as deep a recursion.
            self.loop.call_soon(self._start, cycle)
        else:
            super()._start_asgi_task(cycle, app)

    def _start(self, request: HotRequest) -> None:
        if self.flow.write_paused:  # the caller does not read its responses
            self._waiting = request
        else:
            request.start()


def _abandon(cycle: object) -> None:
    if isinstance(cycle, HotRequest):
        cycle.abandon()
