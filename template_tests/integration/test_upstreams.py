"""What requests lack is asked of a real HTTP server that is slow, down, lying, and back again."""

from __future__ import annotations

import asyncio
import contextlib
import json
import threading
import time
from collections.abc import Callable, Coroutine, Iterator, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from mlservice.owner import Upstream
from mlservice.prediction.upstreams.breaker import COOL_SECONDS
from mlservice.prediction.upstreams.enrichment import Enrichment

SCHEMA = {
    "type": "object",
    "required": ["degrees"],
    "properties": {"degrees": {"type": "number", "maximum": 150}},
}
FALLBACK = {"degrees": -1}
Answer = tuple[int, bytes]


@dataclass
class Weather:
    """A server whose answer and delay can be set, and that knows what it was asked."""

    answer: Callable[[str], Answer] = lambda _: (200, b'{"degrees": 20}')
    delay: float = 0.0
    paths: list[str] = field(default_factory=list)
    url: str = ""


@contextlib.contextmanager
def serving(weather: Weather) -> Iterator[Weather]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            weather.paths.append(self.path)
            time.sleep(weather.delay)
            status, body = weather.answer(self.path)
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            pass

        def handle(self) -> None:
            with contextlib.suppress(OSError):  # the caller did not wait
                super().handle()

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    weather.url = f"http://127.0.0.1:{server.server_port}"
    try:
        yield weather
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture
def weather() -> Iterator[Weather]:
    with serving(Weather()) as made:
        yield made


@pytest.fixture
def contracts(tmp_path: Path) -> Path:
    (tmp_path / "weather.schema.json").write_text(json.dumps(SCHEMA), "utf-8")
    (tmp_path / "other.schema.json").write_text("{}", "utf-8")
    return tmp_path


def wanted(request: Mapping[str, Any]) -> dict[str, str] | None:
    return None if "weather" in request else {"place": request["place"]}


def upstream(name: str = "weather", **more: Any) -> Upstream:
    given = {"path": "/v1/now", "timeout_ms": 300, "fallback": FALLBACK, **more}
    return Upstream(name=name, query=wanted, stand_in=lambda _: None, **given)


def run(
    scenario: Callable[[Enrichment], Coroutine[Any, Any, None]],
    contracts: Path,
    *upstreams: Upstream,
    **urls: str,
) -> None:
    async def whole() -> None:
        enrichment = Enrichment(upstreams or (upstream(),), contracts)
        enrichment.apply({name: (url,) for name, url in urls.items()})
        try:
            await scenario(enrichment)
        finally:
            await enrichment.close()

    asyncio.run(whole())


async def enrich(
    enrichment: Enrichment, request: Mapping[str, Any], left: float
) -> tuple[Mapping[str, Any], tuple[str, ...]]:
    lookup = enrichment.look_up(request)
    await enrichment.ask(lookup, time.perf_counter() + left)
    return lookup.merged()


async def ask(enrichment: Enrichment, place: str = "JFK", left: float = 2.0) -> tuple[Any, Any]:
    request, lacking = await enrich(enrichment, {"place": place}, left)
    return request["weather"], lacking


GOOD = ({"degrees": 20}, ())
LACKING = (FALLBACK, ("weather",))


def test_the_answer_becomes_a_field_of_the_request(contracts: Path, weather: Weather) -> None:
    async def scenario(enrichment: Enrichment) -> None:
        assert await ask(enrichment) == GOOD
        own, lacking = await enrich(enrichment, {"place": "JFK", "weather": "mine"}, 1)
        assert (own["weather"], lacking) == ("mine", ())

    run(scenario, contracts, weather=weather.url)
    assert weather.paths == ["/v1/now?place=JFK"]


@pytest.mark.parametrize(
    ("answer", "calls"),
    [
        ((500, b"{}"), 1),
        ((503, b"{}"), 2),
        ((404, b"{}"), 1),
        ((302, b""), 1),
        ((200, b"{"), 1),
        ((200, b"{}"), 1),
        ((200, b'{"degrees": 1000}'), 1),
        ((200, b'{"degrees": NaN}'), 1),
        ((200, b'{"degrees": 1, "x": "' + b"x" * 1_100_000 + b'"}'), 1),
    ],
)
def test_an_upstream_that_lies_or_refuses_is_replaced_by_the_fallback(
    contracts: Path, weather: Weather, answer: Answer, calls: int
) -> None:
    weather.answer = lambda _: answer

    async def scenario(enrichment: Enrichment) -> None:
        assert await ask(enrichment) == LACKING

    run(scenario, contracts, weather=weather.url)
    assert len(weather.paths) == calls


def test_a_slow_upstream_costs_its_own_time_or_half_of_the_requests(
    contracts: Path, weather: Weather
) -> None:
    weather.delay = 1.0

    async def scenario(enrichment: Enrichment) -> None:
        for left, most in ((2.0, 0.45), (0.2, 0.18)):
            start = time.monotonic()
            assert await ask(enrichment, f"at-{left}", left) == LACKING
            assert time.monotonic() - start < most

    run(scenario, contracts, weather=weather.url)


def test_an_upstream_that_nobody_named_is_replaced_by_the_fallback(contracts: Path) -> None:
    async def scenario(enrichment: Enrichment) -> None:
        assert await ask(enrichment) == LACKING

    run(scenario, contracts)


def test_an_upstream_that_loses_its_last_address_during_a_retry_is_replaced_by_the_fallback(
    contracts: Path, weather: Weather
) -> None:
    async def scenario(enrichment: Enrichment) -> None:
        loop = asyncio.get_running_loop()

        def leave(_: str) -> Answer:
            loop.call_soon_threadsafe(enrichment.apply, {})
            return 503, b""

        weather.answer = leave
        assert await ask(enrichment) == LACKING
        assert len(weather.paths) == 1

    run(scenario, contracts, weather=weather.url)


def test_an_address_of_an_upstream_that_nobody_has_is_said_once(
    contracts: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario(enrichment: Enrichment) -> None:
        for _ in range(3):
            enrichment.apply({"wether": ("http://127.0.0.1:1",)})
        assert caplog.text.count("wether, which the service does not have (it has weather)") == 1
        enrichment.apply({})
        enrichment.apply({"wether": ("http://127.0.0.1:1",)})
        assert caplog.text.count("wether, which") == 2

    run(scenario, contracts)


def test_the_breaker_opens_and_closes_when_the_upstream_is_back(
    contracts: Path, weather: Weather
) -> None:
    weather.answer = lambda _: (500, b"")

    async def scenario(enrichment: Enrichment) -> None:
        for n in range(20):
            assert await ask(enrichment, f"p{n}") == LACKING
        assert len(weather.paths) == 5
        weather.answer = lambda _: (200, b'{"degrees": 20}')
        assert await ask(enrichment) == LACKING
        await asyncio.sleep(COOL_SECONDS)
        found = await asyncio.gather(*(ask(enrichment, f"q{n}") for n in range(10)))
        assert found.count(GOOD) == 1  # one tries, nobody else waits for it
        assert len(weather.paths) == 6
        assert await ask(enrichment, "again") == GOOD

    run(scenario, contracts, weather=weather.url)


def test_an_upstream_that_knows_nothing_of_something_is_not_in_trouble(
    contracts: Path, weather: Weather
) -> None:
    weather.answer = lambda path: (404, b"") if "p" in path[-3:] else (200, b'{"degrees": 20}')

    async def scenario(enrichment: Enrichment) -> None:
        for n in range(30):
            assert await ask(enrichment, f"p{n}") == LACKING
        assert await ask(enrichment) == GOOD

    run(scenario, contracts, weather=weather.url)


def test_a_server_that_is_down_is_tried_twice_and_found_when_it_is_back(contracts: Path) -> None:
    weather = Weather()
    with serving(weather):
        pass
    down = weather.url

    async def scenario(enrichment: Enrichment) -> None:
        assert await ask(enrichment) == LACKING
        with serving(weather):
            enrichment.apply({"weather": (down, weather.url)})
            assert await ask(enrichment, "one") == GOOD  # whichever comes first, or the other
            assert await ask(enrichment, "two") == GOOD

    run(scenario, contracts, weather=down)


def test_an_answer_is_kept_as_long_as_the_owner_allows(contracts: Path, weather: Weather) -> None:
    async def scenario(enrichment: Enrichment) -> None:
        for _ in range(5):
            assert await ask(enrichment) == GOOD
        assert len(weather.paths) == 1
        await asyncio.sleep(0.35)
        weather.answer = lambda _: (500, b"")
        assert await ask(enrichment) == LACKING
        assert await ask(enrichment, "LGA") == LACKING
        assert len(weather.paths) == 3

    run(scenario, contracts, upstream(max_age_s=0.3), weather=weather.url)


def test_requests_of_one_moment_share_a_call(contracts: Path, weather: Weather) -> None:
    weather.delay = 0.1

    async def scenario(enrichment: Enrichment) -> None:
        found = await asyncio.gather(*(ask(enrichment) for _ in range(50)))
        assert found == [GOOD] * 50
        # One that gives up early takes nothing from the others.
        early, late = await asyncio.gather(ask(enrichment, "x", 0.02), ask(enrichment, "x"))
        assert (early, late) == (LACKING, GOOD)

    run(scenario, contracts, weather=weather.url)
    assert len(weather.paths) == 2


def test_a_caller_that_leaves_takes_nobodys_answer_away(contracts: Path, weather: Weather) -> None:
    weather.delay = 0.2

    async def scenario(enrichment: Enrichment) -> None:
        first = asyncio.create_task(ask(enrichment))
        await asyncio.sleep(0.05)
        second = asyncio.create_task(ask(enrichment))
        await asyncio.sleep(0.05)
        first.cancel()
        assert await second == GOOD

    run(scenario, contracts, weather=weather.url)
    assert len(weather.paths) == 1


def test_upstreams_are_asked_at_the_same_time(contracts: Path, weather: Weather) -> None:
    weather.delay = 0.2

    async def scenario(enrichment: Enrichment) -> None:
        start = time.monotonic()
        request, lacking = await enrich(enrichment, {"place": "JFK"}, 2)
        assert time.monotonic() - start < 0.35
        assert lacking == ()
        assert request["other"] == {"degrees": 20}

    both = (upstream(), upstream("other"))
    run(scenario, contracts, *both, weather=weather.url, other=weather.url)


def test_a_storm_of_failures_is_not_doubled_by_retries(contracts: Path, weather: Weather) -> None:
    refused = iter(range(10_000))
    # Two of three calls are refused: the breaker stays closed for long enough.
    weather.answer = lambda _: (503, b"") if next(refused) % 5 < 2 else (200, b'{"degrees": 20}')

    async def scenario(enrichment: Enrichment) -> None:
        for n in range(300):
            await ask(enrichment, f"p{n}")

    run(scenario, contracts, weather=weather.url)
    assert len(weather.paths) <= 300 + 20 + 30 + 10
