"""Asks one upstream for what a request lacks, so that its failures never fail the request.

Every call has a timeout, a breaker, and a budget for its one retry. An answer that breaks the
schema counts as a failure. Answers are cached for as long as the owner allows, and equal queries at
the same moment share one call. If a call fails, the owner's fallback is used and the reason is
counted.
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

_MAX_TRIES = 2
_MAX_PAUSE_SECONDS = 0.05
_MAX_ANSWER_BYTES = 1_000_000
_MAX_CACHED = 10_000
_RETRY_STATUSES = frozenset({429, 502, 503, 504})
_NOT_FOUND = 404
log = logging.getLogger("mlservice.gateway")
Query = tuple[tuple[str, str], ...]
"""A query's parameters, in an order that makes equal queries equal keys."""


class _Failed(Exception):
    """The upstream gave no usable answer; ``again`` is True if a retry may help."""

    def __init__(self, reason: str, words: str, *, again: bool = False) -> None:
        super().__init__(words)
        self.reason = reason
        self.again = again


class UpstreamAnswer(NamedTuple):
    """An upstream's answer, or its fallback; ``fallback`` is then the reason, else None."""

    value: Any
    fallback: str | None = None


class UpstreamClient:
    """The client of one upstream; belongs to one event loop."""

    def __init__(self, upstream: Upstream, contract: Contract) -> None:
        """Check answers against ``contract``."""
        self.upstream = upstream
        self._contract = contract
        self._breaker = Breaker(upstream.name)
        self._budget = RetryBudget(upstream.name)
        self._cached: dict[Query, tuple[float, Any]] = {}
        self._calls: dict[Query, asyncio.Task[Any]] = {}
        self._bases: tuple[str, ...] = ()
        self._next_base = 0
        self._logged_reason = ""

    def apply(self, bases: tuple[str, ...]) -> None:
        """Use these base URLs in turn for new calls."""
        self._bases = bases

    def cached(self, key: Query) -> UpstreamAnswer | None:
        """The cached answer for ``key``, None if the upstream must be asked."""
        cached = self._cached.get(key)
        if cached is None or cached[0] <= monotonic():
            return None
        self._count("cache")
        return UpstreamAnswer(cached[1])

    async def fetch(
        self, session: aiohttp.ClientSession, key: Query, left: float
    ) -> UpstreamAnswer:
        """The answer to ``key``, or the fallback if there is none within ``left`` seconds."""
        call = self._calls.get(key)
        try:
            if call is None:
                call = self._start(session, key)
                self._count("call")
            else:
                self._count("shared")
            async with asyncio.timeout(left):
                return UpstreamAnswer(await asyncio.shield(call))
        except _Failed as error:
            return self._fallback(error.reason, str(error))
        except TimeoutError:
            return self._fallback("late", "the request could not wait any longer")

    def _start(self, session: aiohttp.ClientSession, key: Query) -> asyncio.Task[Any]:
        if not self._bases:
            raise _Failed("unknown", "no URL is known: add one to 'upstreams' in the live file")
        ticket = self._breaker.acquire()
        if not ticket:
            raise _Failed("open", "its breaker is open")
        call = asyncio.create_task(self._call_with_retry(session, key))
        self._calls[key] = call
        call.add_done_callback(lambda done: self._on_call_done(key, done, ticket))
        return call

    def _on_call_done(self, key: Query, call: asyncio.Task[Any], ticket: int) -> None:
        self._calls.pop(key, None)
        if call.cancelled():
            self._breaker.record_cancel(ticket)
            return
        error = call.exception()
        if error is None and self.upstream.max_age_s:
            self._cache(key, call.result())
        if error is None or (isinstance(error, _Failed) and error.reason == "missing"):
            self._breaker.record_success(ticket)
            self._logged_reason = ""
        else:
            self._breaker.record_failure(ticket)

    def _cache(self, key: Query, answer: Any) -> None:
        self._cached.pop(key, None)
        if len(self._cached) >= _MAX_CACHED:
            del self._cached[next(iter(self._cached))]  # the oldest
        self._cached[key] = (monotonic() + self.upstream.max_age_s, answer)

    async def _call_with_retry(self, session: aiohttp.ClientSession, key: Query) -> Any:
        """Call the upstream, with one retry, within its ``timeout_ms``."""
        self._budget.earn()
        try:
            async with asyncio.timeout(self.upstream.timeout_ms / 1000):
                for again in range(_MAX_TRIES):
                    try:
                        return await self._get(session, key)
                    except _Failed as error:
                        last = again == _MAX_TRIES - 1 or not error.again
                        if last or not self._budget.spend():
                            raise
                    await asyncio.sleep(random.uniform(0, _MAX_PAUSE_SECONDS))  # noqa: S311
        except TimeoutError:
            words = f"it did not answer within {self.upstream.timeout_ms} ms"
            raise _Failed("timeout", words) from None

    async def _get(self, session: aiohttp.ClientSession, key: Query) -> Any:
        if not self._bases:  # the live file removed the last one during a pause
            raise _Failed("away", "its last URL was removed from the live file")
        self._next_base += 1
        base = self._bases[self._next_base % len(self._bases)]
        url = f"{base.rstrip('/')}{self.upstream.path}"
        try:
            async with session.get(url, params=list(key), allow_redirects=False) as response:
                status = response.status
                body = await _read(response)
        except (aiohttp.ClientError, OSError) as error:
            raise _Failed("away", f"{type(error).__name__}: {error}", again=True) from error
        if status == _NOT_FOUND:
            raise _Failed("missing", "it answered with 404")
        if status != 200:
            raise _Failed("refused", f"it answered with {status}", again=status in _RETRY_STATUSES)
        try:
            answer = orjson.loads(body)
        except orjson.JSONDecodeError as error:
            raise _Failed("contract", f"its answer is not JSON: {error}") from error
        if faults := self._contract.faults(answer):
            shown = "; ".join(f"{fault.field} = {fault.value!r}: {fault.rule}" for fault in faults)
            raise _Failed("contract", f"its answer breaks {self._contract.name}: {shown}")
        return answer

    def _fallback(self, reason: str, words: str) -> UpstreamAnswer:
        self._count(reason)
        if reason != self._logged_reason:  # once for each new reason, not for each request
            self._logged_reason = reason
            log.warning("upstream %s: %s: the fallback is used", self.upstream.name, words)
        return UpstreamAnswer(self.upstream.fallback, reason)

    def _count(self, source: str) -> None:
        metrics.UPSTREAM_ANSWERS.counts[self.upstream.name, source] += 1


def key_of(query: Mapping[str, str]) -> Query:
    """Return ``query`` as a key of the cache."""
    return tuple(sorted(query.items()))


async def _read(response: aiohttp.ClientResponse) -> bytes:
    body = await response.content.read(_MAX_ANSWER_BYTES + 1)
    while len(body) <= _MAX_ANSWER_BYTES and not response.content.at_eof():
        body += await response.content.read(_MAX_ANSWER_BYTES + 1 - len(body))
    if len(body) > _MAX_ANSWER_BYTES:
        raise _Failed("contract", f"its answer is longer than {_MAX_ANSWER_BYTES} bytes")
    return body
