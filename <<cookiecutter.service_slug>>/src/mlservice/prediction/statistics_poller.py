"""Fetches the statistics that a learning policy needs, as long as one is in force.

A failed fetch, or statistics that are refused, keep the last good ones until they are stale; then
the router uses the policy's weights.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time

import aiohttp

from mlservice.bandit import Statistics, decode_statistics
from mlservice.errors import StatisticsError
from mlservice.observe import metrics
from mlservice.policies import Learning, Policy
from mlservice.prediction.routing import Router

_MAX_SECONDS = 5.0
_MAX_BYTES = 1_000_000
log = logging.getLogger("mlservice.gateway")


class StatisticsPoller:
    """Keeps a router's statistics fresh; belongs to one event loop."""

    def __init__(self, router: Router) -> None:
        """Fetch nothing before ``run``, and nothing for a policy that does not learn."""
        self._router = router
        self._policy: Policy | None = None
        self._changed = asyncio.Event()
        self._newest: Statistics | None = None
        self._reported = ""

    def apply(self, policy: Policy | None) -> None:
        """Fetch for ``policy`` from now on, if it learns."""
        if policy != self._policy:
            self._policy = policy
            self._newest = None
            self._reported = ""
            self._changed.set()

    async def run(self) -> None:
        """Fetch whenever it is time; ends when cancelled."""
        async with aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar()) as session:
            while True:
                self._changed.clear()
                learning = self._policy.learns if self._policy else None
                if learning is not None:
                    await self._poll(session, learning)
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(learning.poll_seconds if learning else None):
                        await self._changed.wait()

    async def _poll(self, session: aiohttp.ClientSession, learning: Learning) -> None:
        policy = self._policy
        try:
            found = await _fetch(session, learning)
        except StatisticsError as error:
            metrics.STATISTICS_REFUSALS.inc()
            if str(error) != self._reported:
                self._reported = str(error)
                log.error("%s; when the last good ones are stale, the weights are used", error)
        else:
            if policy is self._policy and (
                self._newest is None or found.created >= self._newest.created
            ):
                self._newest = found
                self._reported = ""
                metrics.STATISTICS_GOOD.set(found.created.timestamp())
                self._router.learn(found)
        self._router.refresh()


async def _fetch(session: aiohttp.ClientSession, learning: Learning) -> Statistics:
    url = learning.url
    limit = aiohttp.ClientTimeout(total=min(learning.poll_seconds, _MAX_SECONDS))
    try:
        async with session.get(url, timeout=limit) as response:
            status, text = response.status, await response.content.read(_MAX_BYTES)
    except (aiohttp.ClientError, TimeoutError, OSError) as error:
        words = f"{type(error).__name__} {error}".strip()
        raise StatisticsError(f"{url} (routing, statistics) does not answer: {words}") from error
    if status != 200:
        raise StatisticsError(f"{url} (routing, statistics) answers with {status}")
    return decode_statistics(text, url, learning.reward, time.time())
