"""Adds to a request what upstreams know, all asked at once and within a part of its time."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import aiohttp

from mlservice.contracts import Contract
from mlservice.owner import Upstream
from mlservice.prediction.upstreams.client import Found, Query, UpstreamClient, key_of

_SHARE = 0.5
"""The part of a request's time that upstreams may take; the rest is the model's."""
log = logging.getLogger("mlservice.gateway")


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

    async def enrich(
        self, request: Mapping[str, Any], left: float
    ) -> tuple[Mapping[str, Any], tuple[str, ...]]:
        """The request with the upstreams' answers, and the names of those that had none.

        ``left`` is the time in seconds that the request still has.
        """
        found: dict[str, Found] = {}
        unknown: list[tuple[UpstreamClient, Query]] = []
        for client in self._clients:
            query = client.upstream.query(request)
            if query is None:
                continue
            key = key_of(query)
            if kept := client.kept(key):
                found[client.upstream.name] = kept
            else:
                unknown.append((client, key))
        if unknown:
            session, limit = self._open(), left * _SHARE
            finding = (client.find(session, key, limit) for client, key in unknown)
            answers = await asyncio.gather(*finding)
            names = (client.upstream.name for client, _ in unknown)
            found.update(zip(names, answers, strict=True))
        if not found:
            return request, ()
        lacking = tuple(name for name, item in found.items() if item.fallback is not None)
        return {**request, **{name: item.value for name, item in found.items()}}, lacking

    async def close(self) -> None:
        """Close all connections."""
        if self._session is not None:
            await self._session.close()

    def _open(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar())
        return self._session
