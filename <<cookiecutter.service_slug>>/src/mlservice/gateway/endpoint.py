"""The hot routes, as plain ASGI applications: POST /v1/predict and POST /v1/rewards.

FastAPI's own machinery would cost more than half of such a request, so these routes are put in
front of it; everything else is FastAPI's.
"""

from __future__ import annotations

import asyncio
import logging
import time
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from time import perf_counter
from typing import Any, NamedTuple

import orjson

from mlservice.contracts import Contract, parse
from mlservice.errors import RequestRefused
from mlservice.events import MAX_REWARD, EventLog, RewardEvent
from mlservice.gateway.admission import Admission
from mlservice.gateway.problems import PROBLEM, Headers, headers_of, problem
from mlservice.gateway.uvicorn_protocol import TASK
from mlservice.observe import metrics
from mlservice.prediction import request_headers
from mlservice.prediction.path import Prediction, PredictPath, RequestContext
from mlservice.settings import GatewaySettings

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

PREDICT_PATH = "/v1/predict"
REWARD_PATH = "/v1/rewards"
JSON = b"application/json"
REWARD = Contract(
    "reward",
    {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "What an answer turned out to be worth",
        "type": "object",
        "additionalProperties": False,
        "required": ["request_id", "reward"],
        "properties": {
            "request_id": {
                "description": "That of the answer",
                "type": "string",
                "pattern": f"^{request_headers.REQUEST_ID}$",
            },
            "reward": {"type": "number", "minimum": -MAX_REWARD, "maximum": MAX_REWARD},
        },
    },
)
_READ_ON = 32
_LEFT = "499"
log = logging.getLogger("mlservice.gateway")


class _Call(NamedTuple):
    body: bytes
    headers: Mapping[bytes, bytes]
    request_id: str
    started: float


class _Endpoint(ABC):
    """One POST route: its body is bounded, and its errors are problem details."""

    def __init__(self, settings: GatewaySettings, admission: Admission) -> None:
        self._settings = settings
        self._admission = admission
        self.draining = False

    @abstractmethod
    async def _answer(self, call: _Call) -> tuple[int, bytes, Headers]:
        """Status, body and more headers; raises ``RequestRefused``."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one HTTP request."""
        started = perf_counter()
        headers: dict[bytes, bytes] = dict(scope["headers"])
        request_id = request_headers.request_id(headers)
        kind = JSON
        scope[TASK] = asyncio.current_task()
        try:
            if scope["method"] != "POST":
                raise RequestRefused(405, "method_not_allowed", "use POST")
            self._admission.admit(headers)
            body = await self._body(receive)
            call = _Call(body, headers, request_id, started)
            status, answer, extra = await self._answer(call)
        except RequestRefused as error:
            status, kind = error.status, PROBLEM
            answer, extra = problem(error, request_id), headers_of(error)
        except asyncio.CancelledError:
            metrics.ANSWERS.counts[_LEFT,] += 1
            return
        except Exception:
            log.exception("request %s failed", request_id)
            status, kind, extra = 500, PROBLEM, ()
            answer = problem(RequestRefused(500, "internal", "see the log"), request_id)
        start: list[tuple[bytes, bytes]] = [
            (b"content-type", kind),
            (b"content-length", b"%d" % len(answer)),
            *extra,
        ]
        if self.draining or status == 413:
            start.append((b"connection", b"close"))
        metrics.ANSWERS.counts[str(status),] += 1
        await send({"type": "http.response.start", "status": status, "headers": start})
        await send({"type": "http.response.body", "body": answer})

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
            raise RequestRefused(413, "too_large", f"a request may have {limit} bytes")
        if message["type"] == "http.disconnect":
            raise RequestRefused(400, "disconnected", "the caller left before its request ended")
        return body


class PredictEndpoint(_Endpoint):
    """Answers one request with one prediction."""

    def __init__(
        self, settings: GatewaySettings, admission: Admission, answering: PredictPath
    ) -> None:
        """Answer by ``answering``."""
        super().__init__(settings, admission)
        self._answering = answering
        self._timeout = settings.deadline_ms / 1000

    async def _answer(self, call: _Call) -> tuple[int, bytes, Headers]:
        timeout = request_headers.timeout(call.headers, self._timeout)
        # What the body took to come is the caller's time as well.
        asked = RequestContext(
            call.request_id, request_headers.user(call.headers), call.started, timeout
        )
        answered = await self._answering.answer(call.body, asked)
        extra: Headers = ()
        if answered.fallbacks:
            extra = ((b"x-fallback", ", ".join(answered.fallbacks).encode()),)
        if b"x-debug-timing" in call.headers:
            extra = (*extra, (b"server-timing", _timing(answered, asked)))
        return 200, answered.body, extra


class RewardEndpoint(_Endpoint):
    """Takes what answers turned out to be worth; each becomes an event.

    Whoever counts them uses the first one for each request, so that one may be sent again.
    """

    def __init__(self, settings: GatewaySettings, admission: Admission, events: EventLog) -> None:
        """Write to ``events``."""
        super().__init__(settings, admission)
        self._events = events

    async def _answer(self, call: _Call) -> tuple[int, bytes, Headers]:
        message = parse(call.body)
        if faults := REWARD.faults(message):
            raise RequestRefused(422, "invalid_reward", "the reward breaks its contract", faults)
        metrics.REWARDS.inc()
        self._events.put(RewardEvent(time.time(), message["request_id"], message["reward"]))
        return 202, orjson.dumps({"request_id": message["request_id"]}), ()


def _timing(answered: Prediction, asked: RequestContext) -> bytes:
    """The stages in milliseconds, and what was left of the time (W3C Server Timing)."""
    total = perf_counter() - asked.started
    stages = {**answered.stages, "total": total, "left": asked.timeout - total}
    return ", ".join(f"{name};dur={s * 1000:.3f}" for name, s in stages.items()).encode()
