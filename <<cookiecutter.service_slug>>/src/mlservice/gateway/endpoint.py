"""The hot routes, as plain ASGI applications: POST /v1/predict and POST /v1/rewards.

FastAPI would cost more than half of such a request, so these routes bypass it. FastAPI serves
everything else.
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
from mlservice.errors import (
    CallerLeft,
    InternalError,
    InvalidReward,
    MethodNotAllowed,
    RequestError,
    RequestTooLarge,
)
from mlservice.events import MAX_REWARD, EventLog, RewardEvent
from mlservice.gateway.admission import Admission
from mlservice.gateway.problems import PROBLEM, Headers, problem_body, problem_headers, problem_of
from mlservice.gateway.uvicorn_protocol import TASK
from mlservice.observe import metrics
from mlservice.prediction import request_headers
from mlservice.prediction.context import RequestContext
from mlservice.prediction.path import PredictPath
from mlservice.prediction.pending import Prediction
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
        "title": "What a prediction turned out to be worth",
        "type": "object",
        "additionalProperties": False,
        "required": ["request_id", "reward"],
        "properties": {
            "request_id": {
                "description": "The request id in the response",
                "type": "string",
                "pattern": f"^{request_headers.REQUEST_ID}$",
            },
            "reward": {"type": "number", "minimum": -MAX_REWARD, "maximum": MAX_REWARD},
        },
    },
)
_DISCARDED_LIMITS = 32
"""A body that is too large is read and discarded up to this multiple of the size limit."""
_CALLER_LEFT = "499"
log = logging.getLogger("mlservice.gateway")


class _Call(NamedTuple):
    body: bytes
    headers: Mapping[bytes, bytes]
    request_id: str
    started: float


class _Endpoint(ABC):
    """One POST route, with a limit for the body and problem details for errors."""

    def __init__(self, settings: GatewaySettings, admission: Admission) -> None:
        self._settings = settings
        self._admission = admission
        self.draining = False

    @abstractmethod
    async def _answer(self, call: _Call) -> tuple[int, bytes, Headers]:
        """Return status, body and extra headers; raises ``RequestError``."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one HTTP request."""
        started = perf_counter()
        headers: dict[bytes, bytes] = dict(scope["headers"])
        request_id = request_headers.request_id(headers)
        kind = JSON
        scope[TASK] = asyncio.current_task()
        try:
            if scope["method"] != "POST":
                raise MethodNotAllowed("use POST")
            self._admission.admit(headers)
            body = await self._body(receive)
            call = _Call(body, headers, request_id, started)
            status, answer, extra = await self._answer(call)
        except RequestError as error:
            status, kind = problem_of(error).status, PROBLEM
            answer, extra = problem_body(error, request_id), problem_headers(error)
        except asyncio.CancelledError:
            metrics.ANSWERS.counts[_CALLER_LEFT,] += 1
            return
        except Exception:
            log.exception("request %s failed", request_id)
            status, kind, extra = 500, PROBLEM, ()
            answer = problem_body(InternalError("see the log"), request_id)
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
        # A body that is too large is read and discarded for a while. If the connection were closed
        # while the caller sends, the caller would see a broken connection instead of the response.
        while message.get("more_body") and size <= limit * _DISCARDED_LIMITS:
            message = await receive()
            part = message.get("body", b"")
            size += len(part)
            body = body + part if size <= limit else b""
        if size > limit:
            raise RequestTooLarge(f"a request may have {limit} bytes")
        if message["type"] == "http.disconnect":
            raise CallerLeft("the caller left before its request ended")
        return body


class PredictEndpoint(_Endpoint):
    """Answers each request with one prediction."""

    def __init__(self, settings: GatewaySettings, admission: Admission, path: PredictPath) -> None:
        """Predict by ``path``."""
        super().__init__(settings, admission)
        self._path = path
        self._timeout = settings.deadline_ms / 1000

    async def _answer(self, call: _Call) -> tuple[int, bytes, Headers]:
        timeout = request_headers.timeout(call.headers, self._timeout)
        user = request_headers.user(call.headers)
        # The time in which the body arrived counts.
        started = call.started
        context = RequestContext(call.request_id, user, started, started + timeout)
        prediction = await self._path.predict(call.body, context)
        extra: Headers = ()
        if prediction.fallbacks:
            extra = ((b"x-fallback", ", ".join(prediction.fallbacks).encode()),)
        if b"x-debug-timing" in call.headers:
            extra = (*extra, (b"server-timing", _timing(prediction, context)))
        return 200, prediction.body, extra


class RewardEndpoint(_Endpoint):
    """Accepts rewards: what predictions turned out to be worth. Each becomes an event.

    The statistics count the first reward of a request, so a reward may be sent again.
    """

    def __init__(self, settings: GatewaySettings, admission: Admission, events: EventLog) -> None:
        """Write to ``events``."""
        super().__init__(settings, admission)
        self._events = events

    async def _answer(self, call: _Call) -> tuple[int, bytes, Headers]:
        message = parse(call.body)
        if faults := REWARD.faults(message):
            raise InvalidReward(faults)
        metrics.REWARDS.inc()
        self._events.put(RewardEvent(time.time(), message["request_id"], message["reward"]))
        return 202, orjson.dumps({"request_id": message["request_id"]}), ()


def _timing(prediction: Prediction, context: RequestContext) -> bytes:
    """Format the stages in milliseconds, and the time left (W3C Server Timing)."""
    now = perf_counter()
    ends = {"total": now - context.started, "left": context.deadline - now}
    stages = {**prediction.stages.by_name(), **ends}
    return ", ".join(f"{name};dur={s * 1000:.3f}" for name, s in stages.items()).encode()
