"""Asks one upstream for what a request lacks, and never lets it hurt the request.

Every call has a time limit, a breaker and a budget for its one retry; an answer that breaks the
schema counts as a failure. Answers are kept for as long as the owner allows, and requests that
want the same thing at the same moment share one call. Whatever goes wrong, the fallback stands in
and the reason is counted.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Mapping
from time import monotonic
from typing import Any, NamedTuple

import aiohttp
import orjson

from mlservice.contracts import Contract
from mlservice.observe import metrics
from mlservice.owner import Upstream
from mlservice.prediction.retry_budget import RetryBudget
from mlservice.prediction.upstreams.breaker import Breaker

_TRIES = 2
_LONGEST_PAUSE = 0.05
_LARGEST_ANSWER = 1_000_000
_MOST_KEPT = 10_000
_BUSY = frozenset({429, 502, 503, 504})
_NOTHING_KNOWN = 404
log = logging.getLogger("mlservice.gateway")
Query = tuple[tuple[str, str], ...]
"""A query's parameters, in an order that makes equal queries equal keys."""


class _Failed(Exception):
    """The upstream gave no answer that can be used; ``again`` where another try may help."""

    def __init__(self, reason: str, words: str, *, again: bool = False) -> None:
        super().__init__(words)
        self.reason = reason
        self.again = again


class Found(NamedTuple):
    """What stands for an upstream's answer, and why the fallback does; None where it does not."""

    value: Any
    fallback: str | None = None


class UpstreamClient:
    """One upstream of the owner's; belongs to one event loop."""

    def __init__(self, upstream: Upstream, contract: Contract) -> None:
        """Check answers by ``contract``."""
        self.upstream = upstream
        self._contract = contract
        self._breaker = Breaker(upstream.name)
        self._budget = RetryBudget(upstream.name)
        self._kept: dict[Query, tuple[float, Any]] = {}
        self._flights: dict[Query, asyncio.Task[Any]] = {}
        self._bases: tuple[str, ...] = ()
        self._turn = 0
        self._said = ""

    def apply(self, bases: tuple[str, ...]) -> None:
        """Ask at these base URLs in turn from now on."""
        self._bases = bases

    def kept(self, key: Query) -> Found | None:
        """The answer that is kept for ``key``, None where it must be asked for."""
        kept = self._kept.get(key)
        if kept is None or kept[0] <= monotonic():
            return None
        self._count("cache")
        return Found(kept[1])

    async def find(self, session: aiohttp.ClientSession, key: Query, left: float) -> Found:
        """The answer to ``key``, or the fallback where there is none in ``left`` seconds."""
        flight = self._flights.get(key)
        try:
            if flight is None:
                flight = self._start(session, key)
                self._count("call")
            else:
                self._count("shared")
            async with asyncio.timeout(left):
                return Found(await asyncio.shield(flight))
        except _Failed as error:
            return self._stand_in(error.reason, str(error))
        except TimeoutError:
            return self._stand_in("late", "the request could not wait any longer")

    def _start(self, session: aiohttp.ClientSession, key: Query) -> asyncio.Task[Any]:
        if not self._bases:
            raise _Failed("unknown", "no URL of it is known: name it in the live file (upstreams)")
        ticket = self._breaker.allows()
        if not ticket:
            raise _Failed("open", "its breaker is open")
        flight = asyncio.create_task(self._call(session, key))
        self._flights[key] = flight
        flight.add_done_callback(lambda done: self._landed(key, done, ticket))
        return flight

    def _landed(self, key: Query, flight: asyncio.Task[Any], ticket: int) -> None:
        self._flights.pop(key, None)
        if flight.cancelled():
            self._breaker.given_up(ticket)
            return
        error = flight.exception()
        if error is None and self.upstream.max_age_s:
            self._keep(key, flight.result())
        if error is None or (isinstance(error, _Failed) and error.reason == "missing"):
            self._breaker.succeeded(ticket)
            self._said = ""
        else:
            self._breaker.failed(ticket)

    def _keep(self, key: Query, answer: Any) -> None:
        self._kept.pop(key, None)
        if len(self._kept) >= _MOST_KEPT:
            del self._kept[next(iter(self._kept))]  # the oldest
        self._kept[key] = (monotonic() + self.upstream.max_age_s, answer)

    async def _call(self, session: aiohttp.ClientSession, key: Query) -> Any:
        """One call with its retry, all within the upstream's own time."""
        self._budget.earn()
        try:
            async with asyncio.timeout(self.upstream.timeout_ms / 1000):
                for again in range(_TRIES):
                    try:
                        return await self._ask(session, key)
                    except _Failed as error:
                        last = again == _TRIES - 1 or not error.again
                        if last or not self._budget.spend():
                            raise
                    await asyncio.sleep(random.uniform(0, _LONGEST_PAUSE))  # noqa: S311
        except TimeoutError:
            words = f"it did not answer within {self.upstream.timeout_ms} ms"
            raise _Failed("timeout", words) from None

    async def _ask(self, session: aiohttp.ClientSession, key: Query) -> Any:
        if not self._bases:  # the live file took the last one away during a pause
            raise _Failed("away", "it has no address any more")
        self._turn += 1
        base = self._bases[self._turn % len(self._bases)]
        url = f"{base.rstrip('/')}{self.upstream.path}"
        try:
            async with session.get(url, params=list(key), allow_redirects=False) as response:
                status = response.status
                body = await _read(response)
        except (aiohttp.ClientError, OSError) as error:
            raise _Failed("away", f"{type(error).__name__}: {error}", again=True) from error
        if status == _NOTHING_KNOWN:
            raise _Failed("missing", "it knows nothing of that")
        if status != 200:
            raise _Failed("refused", f"it answered with {status}", again=status in _BUSY)
        try:
            answer = orjson.loads(body)
        except orjson.JSONDecodeError as error:
            raise _Failed("contract", f"its answer is no JSON: {error}") from error
        if faults := self._contract.faults(answer):
            shown = "; ".join(f"{fault.field} = {fault.value!r}: {fault.rule}" for fault in faults)
            raise _Failed("contract", f"its answer breaks {self._contract.name}: {shown}")
        return answer

    def _stand_in(self, reason: str, words: str) -> Found:
        self._count(reason)
        if reason != self._said:  # each new kind of trouble once, not each request's
            self._said = reason
            log.warning("upstream %s: %s: the fallback is used", self.upstream.name, words)
        return Found(self.upstream.fallback, reason)

    def _count(self, source: str) -> None:
        metrics.UPSTREAM_ANSWERS.counts[self.upstream.name, source] += 1


def key_of(query: Mapping[str, str]) -> Query:
    """``query`` as a key."""
    return tuple(sorted(query.items()))


async def _read(response: aiohttp.ClientResponse) -> bytes:
    body = await response.content.read(_LARGEST_ANSWER + 1)
    while len(body) <= _LARGEST_ANSWER and not response.content.at_eof():
        body += await response.content.read(_LARGEST_ANSWER + 1 - len(body))
    if len(body) > _LARGEST_ANSWER:
        raise _Failed("contract", f"its answer is longer than {_LARGEST_ANSWER} bytes")
    return body
