"""Adds to a request what upstreams know, all asked at once and within a part of its time."""

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
from mlservice.prediction.upstreams.client import Found, Query, UpstreamClient, key_of

_SHARE = 0.5
"""The part of a request's time that upstreams may take; the rest is the model's."""
log = logging.getLogger("mlservice.gateway")


class Lookup:
    """What upstreams know of one request: what is ``found``, and what is still ``unknown``."""

    def __init__(self, request: Mapping[str, Any]) -> None:
        """Nothing is known yet."""
        self.request = request
        self.found: dict[str, Found] = {}
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
        """Load what each of them must answer from ``contracts``; raises ``ContractError``."""
        self._clients = [
            UpstreamClient(upstream, Contract.load(contracts / f"{upstream.name}.schema.json"))
            for upstream in upstreams
        ]
        self._session: aiohttp.ClientSession | None = None
        self._unknown: set[str] = set()

    @property
    def any(self) -> bool:
        """Whether there is an upstream at all."""
        return bool(self._clients)

    def apply(self, urls: Mapping[str, tuple[str, ...]]) -> None:
        """Know the base URLs of each upstream by its name."""
        known = {client.upstream.name for client in self._clients}
        if unknown := sorted(urls.keys() - known - self._unknown):
            log.warning(
                "the live file has addresses of the upstream %s, which the service does not have "
                "(it has %s): they have no effect",
                ", ".join(unknown),
                ", ".join(sorted(known)) or "none",
            )
        self._unknown = urls.keys() - known
        for client in self._clients:
            client.apply(urls.get(client.upstream.name, ()))

    def look_up(self, request: Mapping[str, Any]) -> Lookup:
        """What is known of ``request`` at once, and which upstreams must be asked for the rest.

        Raises what the owner's queries raise.
        """
        lookup = Lookup(request)
        for client in self._clients:
            query = client.upstream.query(request)
            if query is None:
                continue
            key = key_of(query)
            if kept := client.kept(key):
                lookup.found[client.upstream.name] = kept
            else:
                lookup.unknown.append((client, key))
        return lookup

    async def ask(self, lookup: Lookup, deadline: float) -> None:
        """Ask for what ``lookup`` lacks, all at once, within a part of the time left.

        ``deadline`` is the request's, by ``perf_counter``.
        """
        session = self._open()
        limit = (deadline - perf_counter()) * _SHARE
        asked = (client.find(session, key, limit) for client, key in lookup.unknown)
        for (client, _), found in zip(lookup.unknown, await asyncio.gather(*asked), strict=True):
            lookup.found[client.upstream.name] = found

    async def close(self) -> None:
        """Close all connections."""
        if self._session is not None:
            await self._session.close()

    def _open(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar())
        return self._session
