"""Writes what this service needs from its upstreams as pacts, for the teams of the upstreams.

The gateway's client sends the queries of real requests to pact's server, so a pact holds what is
really sent. Of each answer, it holds only the fields that the upstream's schema names, and only
their types. So the upstream may add fields and change values.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path
from typing import Any

import aiohttp
from pact import Pact, match

from mlservice.contracts import Contract
from mlservice.errors import ContractError
from mlservice.owner import Upstream
from mlservice.prediction.upstreams.client import UpstreamAnswer, UpstreamClient, key_of

KNOWN = "the answer is known"
_TIMEOUT_MS = 10_000


@dataclass(frozen=True)
class Example:
    """The query for a request, and the part of the answer that this service needs."""

    upstream: Upstream
    contract: Contract
    query: Mapping[str, str]
    answer: Any


def needed(schema: Any, answer: Any) -> Any:
    """Return the part of ``answer`` that the schema names under ``properties`` and ``items``.

    Other keywords about an object or array do not count as naming a field.
    """
    if isinstance(answer, dict):
        fields = _keyword("properties", schema)
        return {name: needed(fields[name], answer[name]) for name in fields if name in answer}
    if isinstance(answer, list):
        items = _keyword("items", schema)
        return [needed(items, item) for item in answer] if items else []
    return answer


def example(
    upstream: Upstream, contract: Contract, requests: Iterable[Mapping[str, Any]]
) -> Example:
    """Return the fullest answer that ``stand_in`` gives to ``requests``, with its query.

    Raises ``ContractError`` if it answers none of them, or if the answer breaks the schema.
    """
    found: list[Example] = []
    for request in requests:
        query = upstream.query(request)
        answer = upstream.stand_in(query) if query is not None else None
        if query is not None and answer is not None:
            found.append(Example(upstream, contract, query, needed(contract.schema, answer)))
    if not found:
        raise ContractError(
            f"upstreams.py: {upstream.name}: stand_in answers none of the queries for "
            "samples() in data.py: let it answer at least one, because its pact is made from that"
        )
    best = max(found, key=lambda each: _count_values(each.answer))
    if faults := contract.faults(best.answer):
        raise ContractError(
            f"{contract.name}: {best.answer!r} has all fields of the schema, but breaks it: "
            f"{faults}: name the required fields under 'properties'"
        )
    return best


def write_pacts(consumer: str, examples: Sequence[Example], folder: Path) -> list[Path]:
    """Write a pact into ``folder`` for each provider, with requests by the gateway's own client.

    Raises ``ContractError`` if the client cannot use the answer, and pact's ``MismatchesError`` if
    it sends another request.
    """
    folder.mkdir(parents=True, exist_ok=True)
    by_provider = sorted(examples, key=_provider)
    return [
        _write(consumer, provider, list(group), folder)
        for provider, group in groupby(by_provider, _provider)
    ]


def _provider(given: Example) -> str:
    return given.upstream.provider or given.upstream.name


def _write(consumer: str, provider: str, examples: Sequence[Example], folder: Path) -> Path:
    pact = Pact(consumer, provider)
    for each in examples:
        (
            pact.upon_receiving(f"a query for {each.upstream.name}")
            .given(KNOWN, dict(each.query))
            .with_request("GET", each.upstream.path)
            .with_query_parameters(each.query)
            .will_respond_with(200)
            .with_body(_matcher(each.contract.schema, each.answer), "application/json")
        )
    with pact.serve("127.0.0.1") as server:
        for each in examples:
            found = asyncio.run(_query_by_client(each, str(server.url)))
            if found.fallback:
                raise ContractError(
                    f"{each.upstream.name}: the gateway uses its fallback ({found.fallback}) "
                    f"instead of the answer {each.answer!r}; see its log"
                )
    pact.write_file(folder, overwrite=True)
    return folder / f"{consumer}-{provider}.json"


async def _query_by_client(given: Example, url: str) -> UpstreamAnswer:
    # The upstream's timeout is not tested here, and the machine may be slow.
    patient = replace(given.upstream, timeout_ms=_TIMEOUT_MS)
    client = UpstreamClient(patient, given.contract)
    client.apply((url,))
    async with aiohttp.ClientSession() as session:
        return await client.fetch(session, key_of(given.query), _TIMEOUT_MS / 1000)


def _matcher(schema: Any, value: Any) -> Any:
    """Return a matcher for any value with the types of ``value``."""
    if isinstance(value, dict):
        fields = _keyword("properties", schema)
        return match.like({name: _matcher(fields[name], each) for name, each in value.items()})
    if isinstance(value, list) and value:
        return match.each_like(_matcher(_keyword("items", schema), value[0]))
    if isinstance(value, int | float) and not isinstance(value, bool):
        whole = _keyword("type", schema) == "integer"
        return match.int(int(value)) if whole else match.number(value)
    return match.like(value)


def _keyword(word: str, schema: Any) -> Any:
    """The schema's value for the keyword ``word``, {} if it has none."""
    return schema.get(word, {}) if isinstance(schema, dict) else {}


def _count_values(value: Any) -> int:
    """The number of single values in ``value``."""
    if isinstance(value, dict | list):
        return sum(map(_count_values, value.values() if isinstance(value, dict) else value))
    return 1
