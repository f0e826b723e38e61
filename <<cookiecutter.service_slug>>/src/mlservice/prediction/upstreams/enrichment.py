"""Adds the answers of upstreams to a request. All are asked at once, within half of its time."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from time import perf_counter
from typing import Any

import aiohttp

from mlservice.contracts import Contract
from mlservice.owner import Upstream
from mlservice.prediction.upstreams.client import Query, UpstreamAnswer, UpstreamClient, key_of

_MAX_SHARE = 0.5
"""The share of a request's time that upstreams may take; the rest is for the model."""
log = logging.getLogger("mlservice.gateway")


class Lookup:
    """The answers for one request: those already ``found``, and those still ``unknown``."""

    def __init__(self, request: Mapping[str, Any]) -> None:
        """Begin without answers."""
        self.request = request
        self.found: dict[str, UpstreamAnswer] = {}
        self.unknown: list[tuple[UpstreamClient, Query]] = []

    def merged(self) -> tuple[Mapping[str, Any], tuple[str, ...]]:
        """The request with the upstreams' answers, and the upstreams whose fallback was used."""
        if not self.found:
            return self.request, ()
        fallbacks = tuple(name for name, item in self.found.items() if item.fallback is not None)
        answers = {name: item.value for name, item in self.found.items()}
        return {**self.request, **answers}, fallbacks


class Enrichment:
    """The owner's upstreams; belongs to one event loop."""

    def __init__(self, upstreams: Sequence[Upstream], contracts: Path) -> None:
        """Load the contract of each upstream from ``contracts``; raises ``ContractError``."""
        self._clients = [
            UpstreamClient(upstream, Contract.load(contracts / f"{upstream.name}.schema.json"))
            for upstream in upstreams
        ]
        self._session: aiohttp.ClientSession | None = None
        self._unknown: set[str] = set()

    @property
    def has_upstreams(self) -> bool:
        """Whether the service has any upstream."""
        return bool(self._clients)

    def apply(self, urls: Mapping[str, tuple[str, ...]]) -> None:
        """Set the base URLs of each upstream, by its name."""
        known = {client.upstream.name for client in self._clients}
        if unknown := sorted(urls.keys() - known - self._unknown):
            log.warning(
                "the live file has URLs of the upstream %s, which the service does not have "
                "(it has %s): remove them, they have no effect",
                ", ".join(unknown),
                ", ".join(sorted(known)) or "none",
            )
        self._unknown = urls.keys() - known
        for client in self._clients:
            client.apply(urls.get(client.upstream.name, ()))

    def look_up(self, request: Mapping[str, Any]) -> Lookup:
        """Return the cached answers for ``request``, and the upstreams that must be asked.

        Raises what the owner's ``query`` functions raise.
        """
        lookup = Lookup(request)
        for client in self._clients:
            query = client.upstream.query(request)
            if query is None:
                continue
            key = key_of(query)
            if cached := client.cached(key):
                lookup.found[client.upstream.name] = cached
            else:
                lookup.unknown.append((client, key))
        return lookup

    async def ask(self, lookup: Lookup, deadline: float) -> None:
        """Ask for the unknown answers of ``lookup``, all at once, within half of the time left.

        ``deadline`` is the request's, in seconds of ``perf_counter``.
        """
        session = self._open_session()
        limit = (deadline - perf_counter()) * _MAX_SHARE
        asked = (client.fetch(session, key, limit) for client, key in lookup.unknown)
        for (client, _), found in zip(lookup.unknown, await asyncio.gather(*asked), strict=True):
            lookup.found[client.upstream.name] = found

    async def close(self) -> None:
        """Close all connections."""
        if self._session is not None:
            await self._session.close()

    def _open_session(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar())
        return self._session
