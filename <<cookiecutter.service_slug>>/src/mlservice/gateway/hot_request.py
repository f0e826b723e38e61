"""One request of a hot route, from its headers to its response.

It takes the place of uvicorn's cycle of one request and one response, so that the protocol treats
both kinds alike: pipelined requests, keep-alive, shutdown.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from time import perf_counter
from typing import NamedTuple, Protocol
from urllib.parse import unquote_to_bytes

import httptools
from uvicorn.protocols.http.httptools_impl import STATUS_LINE

from mlservice.errors import InternalError, MethodNotAllowed, RequestError, RequestTooLarge
from mlservice.gateway.admission import Admission
from mlservice.gateway.endpoint import Call, Endpoint, Response, refusal
from mlservice.observe import metrics
from mlservice.prediction import request_headers
from mlservice.prediction.pending import Pending

_CALLER_LEFT = "499"
_DISCARDED_LIMITS = 32
"""A body that is too large is read and discarded up to this multiple of the size limit."""
_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
log = logging.getLogger("mlservice.gateway")


class HotRoutes:
    """The endpoints by their paths, and what all of them share."""

    def __init__(
        self, endpoints: Mapping[str, Endpoint], admission: Admission, max_body_bytes: int
    ) -> None:
        """Admit requests by ``admission`` and bound their bodies."""
        self._endpoints = {path.encode(): endpoint for path, endpoint in endpoints.items()}
        self.admission = admission
        self.max_body_bytes = max_body_bytes
        self.draining = False

    def find(self, url: bytes) -> Endpoint | None:
        """The endpoint of a request's target, None if FastAPI has it."""
        endpoint = self._endpoints.get(url.partition(b"?")[0])
        if endpoint is None and (b"%" in url or not url.startswith(b"/")):
            return self._endpoints.get(_path(url))
        return endpoint


class Connection(Protocol):
    """What a request needs of its connection."""

    def write(self, data: bytes, *, close: bool) -> None:
        """Write to the caller, then close the connection if it shall be closed."""

    def default_headers(self) -> list[tuple[bytes, bytes]]:
        """The headers of every response."""

    def on_response_complete(self) -> None:
        """Go on with the next request."""


class Head(NamedTuple):
    """What a request says before its body."""

    method: bytes
    headers: Mapping[bytes, bytes]
    keep_alive: bool
    expects_continue: bool


class HotRequest:
    """A request of a hot route; belongs to one event loop.

    ``response_complete``, ``disconnected``, ``keep_alive`` and ``message_event`` are what uvicorn
    reads and sets in the cycles of a connection.
    """

    def __init__(
        self, routes: HotRoutes, endpoint: Endpoint, head: Head, connection: Connection
    ) -> None:
        """Keep everything; nothing happens before ``start``."""
        self.response_complete = False
        self.disconnected = False
        self.keep_alive = head.keep_alive
        self.message_event = _NoEvent
        self._routes = routes
        self._endpoint = endpoint
        self._head = head
        self._connection = connection
        self._started_at = perf_counter()
        self._request_id = request_headers.request_id(head.headers)
        self._parts: list[bytes] = []
        self._size = 0
        self._running = False
        self._complete = False
        self._pending: Pending | None = None

    def start(self) -> None:
        """Begin: all requests of the connection before this one have their responses."""
        self._running = True
        self._guard(self._begin)

    def add(self, part: bytes) -> None:
        """Take a part of the body."""
        self._size += len(part)
        if self._size <= self._routes.max_body_bytes:
            self._parts.append(part)
        elif self._running and self._size > self._routes.max_body_bytes * _DISCARDED_LIMITS:
            self._guard(self._refuse_size)

    def complete(self) -> None:
        """The body is complete."""
        self._complete = True
        if self._running:
            self._guard(self._handle)

    def abandon(self) -> None:
        """The caller has left."""
        if self.response_complete:
            return
        self.response_complete = self.disconnected = True
        if self._pending is not None:
            self._pending.abandon()
            self._pending = None
        if self._running:
            metrics.ANSWERS.counts[_CALLER_LEFT,] += 1

    def _begin(self) -> None:
        if self._head.method != b"POST":
            raise MethodNotAllowed("use POST")
        self._routes.admission.admit(self._head.headers)
        if self._complete:
            self._handle()
        elif self._head.expects_continue:
            self._connection.write(_CONTINUE, close=False)

    def _handle(self) -> None:
        # A body that is too large is read and discarded for a while. If the connection were closed
        # while the caller sends, the caller would see a broken connection instead of the response.
        if self._size > self._routes.max_body_bytes:
            self._refuse_size()
        body = self._parts[0] if len(self._parts) == 1 else b"".join(self._parts)
        call = Call(body, self._head.headers, self._request_id, self._started_at)
        self._pending = self._endpoint.handle(call, self._respond)

    def _refuse_size(self) -> None:
        raise RequestTooLarge(f"a request may have {self._routes.max_body_bytes} bytes")

    def _guard(self, step: Callable[[], None]) -> None:
        """Run a step of the request, and respond with its error if it raises one."""
        if self.response_complete:
            return
        try:
            step()
        except RequestError as error:
            self._respond(refusal(error, self._request_id))
        except Exception:
            log.exception("request %s failed", self._request_id)
            self._respond(refusal(InternalError("see the log"), self._request_id))

    def _respond(self, response: Response) -> None:
        if self.response_complete:
            return
        self.response_complete = True
        self._pending = None
        if self._routes.draining or response.status == 413:
            self.keep_alive = False
        metrics.ANSWERS.counts[str(response.status),] += 1
        self._connection.write(self._encoded(response), close=not self.keep_alive)
        self._connection.on_response_complete()

    def _encoded(self, response: Response) -> bytes:
        lines = [STATUS_LINE[response.status]]
        for name, value in (*self._connection.default_headers(), *response.headers):
            lines += (name, b": ", value, b"\r\n")
        lines += (b"content-type: ", response.content_type, b"\r\n")
        lines.append(b"content-length: %d\r\n" % len(response.body))
        if not self.keep_alive:
            lines.append(b"connection: close\r\n")
        lines.append(b"\r\n")
        if self._head.method != b"HEAD":
            lines.append(response.body)
        return b"".join(lines)


def _path(url: bytes) -> bytes:
    """The decoded path of a target with escapes or of absolute form; empty if it is none."""
    try:
        return unquote_to_bytes(httptools.parse_url(url).path or b"")
    except httptools.HttpParserInvalidURLError:
        return b""


class _NoEvent:
    """uvicorn wakes the waiting task of a cycle by its event; nothing waits here."""

    @staticmethod
    def set() -> None:
        """See ``asyncio.Event``."""
