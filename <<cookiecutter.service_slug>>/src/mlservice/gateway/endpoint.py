"""The hot route: POST /v1/predict, as a plain ASGI application.

FastAPI's own machinery would cost more than half of such a request, so this route is put in
front of it; everything else is FastAPI's. Errors are problem details (RFC 9457).
"""

from __future__ import annotations

import asyncio
import logging
import os
import re
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

import orjson

from mlservice.contracts import Contract, parse
from mlservice.door import RequestSide
from mlservice.errors import Fault, RequestRefused, Unavailable
from mlservice.gateway.coalescer import Coalescer
from mlservice.gateway.worker_pool import WorkerPool
from mlservice.protocol.packing import RowPacker
from mlservice.settings import GatewaySettings

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Headers = tuple[tuple[bytes, bytes], ...]

_REQUEST_ID = re.compile(rb"[\w.:-]{1,64}")
_LONGEST_TIMEOUT_MS = 600_000
_READ_ON = 32
log = logging.getLogger("mlservice.gateway")


class PredictEndpoint:
    """Answers one request with one prediction."""

    def __init__(
        self,
        settings: GatewaySettings,
        side: RequestSide,
        request: Contract,
        response: Contract,
        workers: WorkerPool,
    ) -> None:
        """Join the owner's side, the two contracts and the workers."""
        packer = RowPacker(len(side.names))
        self._settings = settings
        self._side = side
        self._request = request
        self._response = response
        self._workers = workers
        self._packer = packer
        self.coalescer = Coalescer(
            workers.predict,
            max_rows=min(settings.max_batch_rows, packer.most_rows),
            max_queue=settings.max_queue_rows,
            max_in_flight=workers.most_in_flight,
        )
        workers.on_growth(self.coalescer.wake)
        self.draining = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one HTTP request."""
        started = asyncio.get_running_loop().time()
        headers: dict[bytes, bytes] = dict(scope["headers"])
        request_id = _request_id(headers)
        status, kind = 200, b"application/json"
        extra: Headers = ()
        try:
            if scope["method"] != "POST":
                raise RequestRefused(405, "method_not_allowed", "use POST")
            body = await self._body(receive)
            answer = await self._answer(body, started + self._timeout(headers), request_id)
        except RequestRefused as error:
            status, kind = error.status, b"application/problem+json"
            answer = _problem(error, request_id)
            extra = _headers_of(error)
        except Exception:
            log.exception("request %s failed", request_id)
            status, kind = 500, b"application/problem+json"
            answer = _problem(RequestRefused(500, "internal", "see the log"), request_id)
        start: list[tuple[bytes, bytes]] = [
            (b"content-type", kind),
            (b"content-length", b"%d" % len(answer)),
            *extra,
        ]
        if self.draining or status == 413:
            start.append((b"connection", b"close"))
        await send({"type": "http.response.start", "status": status, "headers": start})
        await send({"type": "http.response.body", "body": answer})

    async def _answer(self, body: bytes, deadline: float, request_id: str) -> bytes:
        message = parse(body)
        if faults := self._request.faults(message):
            raise RequestRefused(422, "invalid_request", "the request breaks its contract", faults)
        row = self._packer.pack(self._side.features(message))
        if trouble := self._workers.trouble:
            raise Unavailable(trouble)
        score = await self.coalescer.submit(row, deadline)
        response = {
            "request_id": request_id,
            "model_version": score.model_version,
            "prediction": self._side.respond(score.value),
        }
        if faults := self._response.faults(response):
            log.error("the response to %s breaks its contract: %s", request_id, faults)
            raise RequestRefused(500, "invalid_response", "the response breaks its contract")
        return orjson.dumps(response)

    async def _body(self, receive: Receive) -> bytes:
        limit = self._settings.max_request_bytes
        message = await receive()
        body: bytes = message.get("body", b"")
        size = len(body)
        # A body that is too large is read on for a while and dropped: a caller that is cut off
        # while it sends would see a broken connection instead of the answer.
        while message.get("more_body") and size <= limit * _READ_ON:
            message = await receive()
            part = message.get("body", b"")
            size += len(part)
            body = body + part if size <= limit else b""
        if size > limit:
            raise _too_large(limit)
        if message["type"] == "http.disconnect":
            raise RequestRefused(400, "disconnected", "the caller left before its request ended")
        return body

    def _timeout(self, headers: dict[bytes, bytes]) -> float:
        """Seconds that the request may take: the caller's wish, else the setting."""
        wish = headers.get(b"x-request-timeout-ms")
        if wish is None:
            return self._settings.deadline_ms / 1000
        if not wish.isdigit() or not 1 <= int(wish[:9]) <= _LONGEST_TIMEOUT_MS:
            rule = f"give whole milliseconds from 1 to {_LONGEST_TIMEOUT_MS}"
            fault = Fault("X-Request-Timeout-Ms", wish.decode("latin-1"), rule)
            raise RequestRefused(400, "invalid_header", "a header cannot be used", [fault])
        return int(wish) / 1000


def _request_id(headers: dict[bytes, bytes]) -> str:
    given = headers.get(b"x-request-id")
    if given and _REQUEST_ID.fullmatch(given):
        return given.decode()
    return os.urandom(12).hex()


def _too_large(limit: int) -> RequestRefused:
    return RequestRefused(413, "too_large", f"a request may have {limit} bytes")


def _headers_of(error: RequestRefused) -> Headers:
    if isinstance(error, Unavailable):
        return ((b"retry-after", b"1"),)
    return ((b"allow", b"POST"),) if error.status == 405 else ()


def _problem(error: RequestRefused, request_id: str) -> bytes:
    return orjson.dumps(
        {
            "type": f"urn:mlservice:problem:{error.code}",
            "title": error.code.replace("_", " "),
            "status": error.status,
            "detail": error.detail,
            "request_id": request_id,
            "faults": [vars(fault) for fault in error.faults],
        }
    )
