"""Asks for the statistics that a bandit's policy needs, as long as one is in force.

What cannot be had or used changes nothing until the last good statistics are stale; then the
router deals by the policy's weights.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time

import aiohttp

from mlservice.bandit import Statistics, decode_statistics
from mlservice.errors import StatisticsError
from mlservice.live import Policy, ThompsonPolicy
from mlservice.observe import metrics
from mlservice.prediction.routing import Router

_LONGEST_SECONDS = 5.0
_LARGEST = 1_000_000
log = logging.getLogger("mlservice.gateway")


class StatisticsPoller:
    """Keeps a router's statistics fresh; belongs to one event loop."""

    def __init__(self, router: Router) -> None:
        """Nothing is asked before ``run`` and a policy that wants it."""
        self._router = router
        self._policy: ThompsonPolicy | None = None
        self._changed = asyncio.Event()
        self._newest: Statistics | None = None
        self._said = ""

    def apply(self, policy: Policy | None) -> None:
        """Serve ``policy`` from now on."""
        wanted = policy if isinstance(policy, ThompsonPolicy) else None
        if wanted != self._policy:
            self._policy = wanted
            self._newest = None
            self._said = ""
            self._changed.set()

    async def run(self) -> None:
        """Ask whenever it is time; ends by cancel."""
        async with aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar()) as session:
            while True:
                self._changed.clear()
                policy = self._policy
                if policy is not None:
                    await self._poll(session, policy)
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(policy.poll_seconds if policy else None):
                        await self._changed.wait()

    async def _poll(self, session: aiohttp.ClientSession, policy: ThompsonPolicy) -> None:
        try:
            found = await _fetch(session, policy)
        except StatisticsError as error:
            metrics.STATISTICS_REFUSALS.inc()
            if str(error) != self._said:
                self._said = str(error)
                log.error("%s; when what is known is stale, the weights are in force", error)
        else:
            if policy is self._policy and (
                self._newest is None or found.created >= self._newest.created
            ):
                self._newest = found
                self._said = ""
                metrics.STATISTICS_GOOD.set(found.created.timestamp())
                self._router.learn(found)
        self._router.refresh()


async def _fetch(session: aiohttp.ClientSession, policy: ThompsonPolicy) -> Statistics:
    url = policy.statistics
    limit = aiohttp.ClientTimeout(total=min(policy.poll_seconds, _LONGEST_SECONDS))
    try:
        async with session.get(url, timeout=limit) as response:
            status, text = response.status, await response.content.read(_LARGEST)
    except (aiohttp.ClientError, TimeoutError, OSError) as error:
        words = f"{type(error).__name__} {error}".strip()
        raise StatisticsError(f"{url} (routing, statistics) does not answer: {words}") from error
    if status != 200:
        raise StatisticsError(f"{url} (routing, statistics) answers with {status}")
    return decode_statistics(text, url, policy.reward, time.time())
