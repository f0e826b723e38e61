"""The hot routes: POST /v1/predict and POST /v1/rewards, without a task or an ASGI call a request.

An endpoint takes a complete request and a function to respond by, and returns at once. The protocol
(``uvicorn_protocol``) reads requests and writes responses. FastAPI serves all other routes.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from functools import partial
from time import perf_counter
from typing import NamedTuple, Protocol

import orjson

from mlservice.contracts import Contract, parse
from mlservice.errors import InvalidReward, RequestError
from mlservice.events import MAX_REWARD, EventLog, RewardEvent
from mlservice.gateway.problems import PROBLEM, Headers, problem_body, problem_headers, problem_of
from mlservice.observe import metrics
from mlservice.prediction import request_headers
from mlservice.prediction.context import RequestContext
from mlservice.prediction.path import PredictPath
from mlservice.prediction.pending import Outcome, Pending, Prediction
from mlservice.settings import GatewaySettings

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


class Call(NamedTuple):
    """A complete request; it ``started`` with its headers, by ``perf_counter``."""

    body: bytes
    headers: Mapping[bytes, bytes]
    request_id: str
    started: float


class Response(NamedTuple):
    """Status, body, content type and further headers of a response."""

    status: int
    body: bytes
    content_type: bytes = JSON
    headers: Headers = ()


Respond = Callable[[Response], None]


def refusal(error: RequestError, request_id: str) -> Response:
    """The response that tells of ``error``."""
    headers = problem_headers(error)
    return Response(problem_of(error).status, problem_body(error, request_id), PROBLEM, headers)


class Endpoint(Protocol):
    """One hot route."""

    def handle(self, call: Call, respond: Respond) -> Pending | None:
        """Call ``respond`` once, now or later; raises ``RequestError`` if it refuses now.

        The result can be abandoned if the caller leaves; None if the response is out already.
        """


class PredictEndpoint:
    """Answers each request with one prediction."""

    def __init__(self, settings: GatewaySettings, path: PredictPath) -> None:
        """Predict by ``path``."""
        self._path = path
        self._timeout = settings.deadline_ms / 1000

    def handle(self, call: Call, respond: Respond) -> Pending:
        """See ``Endpoint``."""
        timeout = request_headers.timeout(call.headers, self._timeout)
        user = request_headers.user(call.headers)
        # The time in which the body arrived counts.
        context = RequestContext(call.request_id, user, call.started, call.started + timeout)
        pending = Pending(call.body, context, partial(_respond, call, context, respond))
        self._path.submit(pending)
        return pending


class RewardEndpoint:
    """Takes rewards: what predictions turned out to be worth. Each becomes an event.

    The statistics count the first reward of a request, so a reward may be sent again.
    """

    def __init__(self, events: EventLog) -> None:
        """Write to ``events``."""
        self._events = events

    def handle(self, call: Call, respond: Respond) -> None:
        """See ``Endpoint``."""
        message = parse(call.body)
        if faults := REWARD.faults(message):
            raise InvalidReward(faults)
        metrics.REWARDS.inc()
        self._events.put(RewardEvent(time.time(), message["request_id"], message["reward"]))
        respond(Response(202, orjson.dumps({"request_id": message["request_id"]})))


def _respond(call: Call, context: RequestContext, respond: Respond, outcome: Outcome) -> None:
    if isinstance(outcome, RequestError):
        respond(refusal(outcome, call.request_id))
        return
    headers: Headers = ()
    if outcome.fallbacks:
        headers = ((b"x-fallback", ", ".join(outcome.fallbacks).encode()),)
    if b"x-debug-timing" in call.headers:
        headers = (*headers, (b"server-timing", _timing(outcome, context)))
    respond(Response(200, outcome.body, JSON, headers))


def _timing(prediction: Prediction, context: RequestContext) -> bytes:
    """The stages in milliseconds, and what was left of the time (W3C Server Timing)."""
    now = perf_counter()
    ends = {"total": now - context.started, "left": context.deadline - now}
    stages = {**prediction.stages.by_name(), **ends}
    return ", ".join(f"{name};dur={s * 1000:.3f}" for name, s in stages.items()).encode()
