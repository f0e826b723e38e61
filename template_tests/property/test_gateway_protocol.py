"""The gateway's HTTP protocol: however bytes arrive, each request gets its response, in order."""

from __future__ import annotations

import asyncio
import gc
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from uvicorn.config import Config
from uvicorn.server import ServerState

from mlservice.errors import Unavailable
from mlservice.gateway.admission import Admission
from mlservice.gateway.endpoint import Call, Endpoint, Respond, Response
from mlservice.gateway.hot_request import HotRoutes
from mlservice.gateway.uvicorn_protocol import GatewayProtocol
from mlservice.live import Client, digest
from mlservice.observe import metrics
from mlservice.prediction.context import RequestContext
from mlservice.prediction.pending import Pending, Prediction, StageTimes

LIMIT = 50
PREDICTION = Prediction(b"", (), StageTimes(0, None, 0, 0, 0))
LAWS = settings(max_examples=150, deadline=None, derandomize=True)


class Later:
    """An endpoint that responds some turns of the loop later, with the body that it got."""

    def __init__(self) -> None:
        self.abandoned = 0

    def handle(self, call: Call, respond: Respond) -> Pending:
        """See ``Endpoint``."""
        if call.body == b"refuse":
            raise Unavailable("later")
        if call.body == b"break":
            raise ValueError("a bug")
        context = RequestContext.begin(call.request_id, None, 5)
        response = Response(200, b"later:" + call.body)
        pending = Pending(b"", context, lambda _: respond(response))
        self._after(len(call.body) % 4, lambda: self._end(pending))
        return pending

    def _after(self, turns: int, call: Callable[[], None]) -> None:
        loop = asyncio.get_running_loop()
        if turns:
            loop.call_soon(self._after, turns - 1, call)
        else:
            loop.call_soon(call)

    def _end(self, pending: Pending) -> None:
        self.abandoned += pending.done
        pending.finish(PREDICTION)


class AtOnce:
    """An endpoint that responds at once, with the body that it got."""

    def handle(self, call: Call, respond: Respond) -> None:
        """See ``Endpoint``."""
        respond(Response(202, b"at once:" + call.body))


async def other(scope: Any, receive: Any, send: Any) -> None:
    """An ASGI application for all other routes."""
    message = await receive()
    while message.get("more_body"):
        message = await receive()
    body = f"other:{scope['path']}".encode()
    headers = [(b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": 404, "headers": headers})
    await send({"type": "http.response.body", "body": body})


class FakeTransport:
    """A connection in memory."""

    def __init__(self) -> None:
        self.written = b""
        self.closed = False
        self.paused = False

    def write(self, data: bytes) -> None:
        """Take bytes for the caller."""
        assert not self.closed
        self.written += data

    def close(self) -> None:
        """Close."""
        self.closed = True

    def is_closing(self) -> bool:
        """Whether it was closed."""
        return self.closed

    def pause_reading(self) -> None:
        """Read no more for now."""
        self.paused = True

    def resume_reading(self) -> None:
        """Read on."""
        self.paused = False

    def get_extra_info(self, _: str) -> None:
        """Nothing is known of the caller."""


class Server:
    """One connection to a gateway whose endpoints are above."""

    def __init__(self, *, draining: bool = False, admission: Admission | None = None) -> None:
        self.later = Later()
        endpoints: dict[str, Endpoint] = {"/v1/predict": self.later, "/v1/rewards": AtOnce()}
        self.routes = HotRoutes(endpoints, admission or Admission(required=False), LIMIT)
        self.routes.draining = draining
        self.transport = FakeTransport()
        loop = asyncio.get_running_loop()
        config = Config(other, http="httptools", ws="none", log_config=None, lifespan="off")
        self.protocol = GatewayProtocol(self.routes, config, ServerState(), {}, loop)
        self.protocol.connection_made(cast(asyncio.Transport, self.transport))

    async def send(self, data: bytes, pieces: list[int]) -> None:
        """Let the bytes arrive in pieces of these lengths, with a turn of the loop between."""
        for length in [*pieces, len(data)]:
            piece, data = data[:length], data[length:]
            if piece and not self.transport.closed:
                self.protocol.data_received(piece)
            await asyncio.sleep(0)

    async def settle(self) -> None:
        """Let everything that is under way end."""
        for _ in range(80):
            await asyncio.sleep(0)
        if timer := self.protocol.timeout_keep_alive_task:
            timer.cancel()


@dataclass(frozen=True)
class Request:
    """A request to send, and the status and body of its response."""

    data: bytes
    status: int
    body: bytes
    closes: bool = False


BODIES = st.binary(max_size=LIMIT).filter(lambda body: body not in (b"refuse", b"break"))


@st.composite
def requests(draw: st.DrawFn) -> Request:
    """Any request that a caller may send."""
    target, status, prefix = draw(
        st.sampled_from(
            [
                ("/v1/predict", 200, b"later:"),
                ("/v1/predict?x=1", 200, b"later:"),
                ("/v1/%70redict", 200, b"later:"),
                ("http://host/v1/predict", 200, b"later:"),
                ("/v1/rewards", 202, b"at once:"),
                ("/other", 404, b"other:/other"),
            ]
        )
    )
    body = draw(BODIES)
    head = f"POST {target} HTTP/1.1\r\nHost: x\r\n".encode()
    if draw(st.booleans()):
        cut = draw(st.integers(0, len(body)))
        chunks = [chunk for chunk in (body[:cut], body[cut:]) if chunk]
        encoded = b"".join(b"%x\r\n%s\r\n" % (len(chunk), chunk) for chunk in chunks)
        data = head + b"Transfer-Encoding: chunked\r\n\r\n" + encoded + b"0\r\n\r\n"
    else:
        data = head + b"Content-Length: %d\r\n\r\n" % len(body) + body
    return Request(data, status, prefix if status == 404 else prefix + body)


Received = tuple[int, dict[bytes, bytes], bytes]
"""Status, headers and body of a response."""


def responses(written: bytes) -> list[Received]:
    """Status, headers and body of each response."""
    found = []
    while written:
        head, _, rest = written.partition(b"\r\n\r\n")
        lines = head.split(b"\r\n")
        headers = dict(line.lower().split(b": ", 1) for line in lines[1:])
        length = int(headers.get(b"content-length", b"0"))
        found.append((int(lines[0].split()[1]), headers, rest[:length]))
        written = rest[length:]
    return found


@LAWS
@given(st.lists(requests(), min_size=1, max_size=8), st.lists(st.integers(1, 60), max_size=30))
def test_each_request_gets_its_own_response_in_order(
    sent: list[Request], pieces: list[int]
) -> None:
    async def run() -> list[Received]:
        server = Server()
        await server.send(b"".join(request.data for request in sent), pieces)
        await server.settle()
        assert not server.transport.closed
        assert not server.transport.paused
        return responses(server.transport.written)

    found = asyncio.run(run())
    assert [(status, body) for status, _, body in found] == [
        (request.status, request.body) for request in sent
    ]


@LAWS
@given(st.lists(requests(), min_size=1, max_size=6), st.integers(0, 400))
def test_a_caller_that_leaves_at_any_byte_is_counted_once_for_each_request_under_way(
    sent: list[Request], cut: int
) -> None:
    async def run() -> None:
        server = Server()
        data = b"".join(request.data for request in sent)[:cut]
        before = metrics.ANSWERS.counts.copy()
        await server.send(data, [])
        server.protocol.connection_lost(None)
        written = server.transport.written
        await server.settle()
        assert server.transport.written == written
        gone = metrics.ANSWERS.counts["499",] - before["499",]
        assert gone <= len(sent)
        assert server.later.abandoned <= gone

    asyncio.run(run())


@LAWS
@given(st.binary(max_size=300), st.lists(st.integers(1, 20), max_size=20))
def test_bytes_that_are_no_request_end_the_connection_or_wait_for_more(
    data: bytes, pieces: list[int]
) -> None:
    async def run() -> bytes:
        server = Server()
        await server.send(data, pieces)
        await server.settle()
        return server.transport.written

    assert not re.search(rb"^HTTP/1.1 5", asyncio.run(run()))


def exchange(data: bytes, **options: Any) -> tuple[list[Received], bool]:
    """The responses to these bytes, and whether the connection was closed."""

    async def run() -> tuple[list[Received], bool]:
        server = Server(**options)
        await server.send(data, [])
        await server.settle()
        return responses(server.transport.written), server.transport.closed

    return asyncio.run(run())


def post(body: bytes, *lines: str, method: str = "POST") -> bytes:
    """A request for a prediction."""
    head = [f"{method} /v1/predict HTTP/1.1", "Host: x", f"Content-Length: {len(body)}", *lines]
    return "\r\n".join(head).encode() + b"\r\n\r\n" + body


def test_a_pipeline_of_thousands_is_no_deep_recursion() -> None:
    reward = b"POST /v1/rewards HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n"

    async def run() -> int:
        server = Server()
        await server.send(post(b"abc") + reward * 3000, [])
        for _ in range(100):
            await server.settle()
        return len(responses(server.transport.written))

    assert asyncio.run(run()) == 3001


def test_a_request_leaves_nothing_for_the_garbage_collector() -> None:
    """A cycle in each request would stop the loop for a collection every few thousand requests."""

    async def run() -> None:
        server = Server()
        await server.send(post(b"warm"), [])
        await server.settle()
        gc.collect()
        gc.disable()
        try:
            for body in [b"a", b"ab", b"abc", b"refuse"] * 50:
                await server.send(post(body), [])
                await server.settle()
            assert gc.collect() < 50
        finally:
            gc.enable()

    asyncio.run(run())


def test_a_caller_that_does_not_read_gets_no_further_response_until_it_does() -> None:
    async def run() -> None:
        server = Server()
        server.protocol.pause_writing()
        await server.send(post(b"a") + post(b"b"), [])
        await server.settle()
        assert server.transport.written == b""
        server.protocol.resume_writing()
        await server.settle()
        assert [body for _, _, body in responses(server.transport.written)] == [
            b"later:a",
            b"later:b",
        ]

    asyncio.run(run())


@pytest.mark.parametrize("size", [LIMIT + 1, LIMIT * 20, LIMIT * 40])
def test_a_body_that_is_too_large_is_refused_and_the_connection_closed(size: int) -> None:
    found, closed = exchange(post(b"x" * size))
    assert [status for status, _, _ in found] == [413]
    assert closed


@pytest.mark.parametrize(("body", "status"), [(b"refuse", 503), (b"break", 500)])
def test_an_endpoint_that_raises_is_a_problem_and_the_connection_goes_on(
    body: bytes, status: int
) -> None:
    found, closed = exchange(post(body) + post(b"next"))
    assert [each[0] for each in found] == [status, 200]
    assert found[0][1][b"content-type"] == b"application/problem+json"
    assert not closed


def test_another_method_is_refused_and_a_head_has_no_body() -> None:
    found, _ = exchange(post(b"", method="GET"))
    assert found[0][0] == 405
    assert found[0][1][b"allow"] == b"post"
    head = b"HEAD /v1/predict HTTP/1.1\r\nHost: x\r\n\r\n"

    async def run() -> bytes:
        server = Server()
        await server.send(head, [])
        await server.settle()
        return server.transport.written

    assert asyncio.run(run()).endswith(b"\r\n\r\n")


def test_a_caller_that_asks_to_close_or_a_gateway_that_drains_closes_after_the_response() -> None:
    for data, options in ((post(b"a", "Connection: close"), {}), (post(b"a"), {"draining": True})):
        found, closed = exchange(data, **options)
        assert found[0][0] == 200
        assert found[0][1][b"connection"] == b"close"
        assert closed


def test_a_caller_that_expects_it_is_told_to_continue_unless_it_is_refused() -> None:
    data = post(b"abc", "Expect: 100-continue")
    head, body = data[:-3], data[-3:]

    async def run(admission: Admission) -> list[int]:
        server = Server(admission=admission)
        await server.send(head, [])
        first = server.transport.written
        await server.send(body, [])
        await server.settle()
        rest = server.transport.written[len(first) :]
        return [status for part in (first, rest) for status, _, _ in responses(part)]

    assert asyncio.run(run(Admission(required=False))) == [100, 200]
    closed = Admission(required=True)
    closed.apply({"a": Client(token_sha256=digest(b"secret"))})
    assert asyncio.run(run(closed)) == [401]
