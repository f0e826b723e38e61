"""Writes what this service needs of its upstreams as pacts, for the upstreams' own teams.

The gateway's own client asks pact's server for what real requests lack, so a pact holds what is
really sent. Of the answer it holds what the upstream's schema names, by type alone: the upstream
is free to add fields and to say anything else.
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
from mlservice.prediction.upstreams.client import Found, UpstreamClient, key_of

KNOWN = "the answer is known"
_PATIENT_MS = 10_000


@dataclass(frozen=True)
class Example:
    """What a request makes an upstream be asked, and what is needed of its answer."""

    upstream: Upstream
    contract: Contract
    query: Mapping[str, str]
    answer: Any


def needed(schema: Any, answer: Any) -> Any:
    """The part of ``answer`` that the JSON Schema names under ``properties`` and ``items``.

    What it says of an object or array by other words does not count as named.
    """
    if isinstance(answer, dict):
        fields = _under("properties", schema)
        return {name: needed(fields[name], answer[name]) for name in fields if name in answer}
    if isinstance(answer, list):
        items = _under("items", schema)
        return [needed(items, item) for item in answer] if items else []
    return answer


def example(
    upstream: Upstream, contract: Contract, requests: Iterable[Mapping[str, Any]]
) -> Example:
    """The fullest answer that ``stand_in`` gives to what ``requests`` lack, and its query.

    Raises ``ContractError`` where it answers none of them, or not as the schema says.
    """
    found: list[Example] = []
    for request in requests:
        query = upstream.query(request)
        answer = upstream.stand_in(query) if query is not None else None
        if query is not None and answer is not None:
            found.append(Example(upstream, contract, query, needed(contract.schema, answer)))
    if not found:
        raise ContractError(
            f"upstreams.py: {upstream.name}: stand_in answers nothing that samples() in data.py "
            "ask: let it answer one, its pact is made of that"
        )
    best = max(found, key=lambda each: _size(each.answer))
    if faults := contract.faults(best.answer):
        raise ContractError(
            f"{contract.name}: {best.answer!r} has all that the schema names and breaks it: "
            f"{faults}: name what it asks for under 'properties'"
        )
    return best


def write_pacts(consumer: str, examples: Sequence[Example], folder: Path) -> list[Path]:
    """Write a pact into ``folder`` for each provider, each asked by the gateway's own client.

    Raises ``ContractError`` where the client can do nothing with the answer, pact's
    ``MismatchesError`` where it asks for something else.
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
            .with_body(_alike(each.contract.schema, each.answer), "application/json")
        )
    with pact.serve("127.0.0.1") as server:
        for each in examples:
            found = asyncio.run(_ask(each, str(server.url)))
            if found.fallback:
                raise ContractError(
                    f"{each.upstream.name}: the gateway takes its fallback ({found.fallback}) "
                    f"instead of the answer {each.answer!r}; see its log"
                )
    pact.write_file(folder, overwrite=True)
    return folder / f"{consumer}-{provider}.json"


async def _ask(given: Example, url: str) -> Found:
    # What the upstream may take is its own affair; the test's machine may be slow.
    patient = replace(given.upstream, timeout_ms=_PATIENT_MS)
    client = UpstreamClient(patient, given.contract)
    client.apply((url,))
    async with aiohttp.ClientSession() as session:
        return await client.find(session, key_of(given.query), _PATIENT_MS / 1000)


def _alike(schema: Any, value: Any) -> Any:
    """A matcher for whatever has the types of ``value``, which holds nothing but what is needed."""
    if isinstance(value, dict):
        fields = _under("properties", schema)
        return match.like({name: _alike(fields[name], each) for name, each in value.items()})
    if isinstance(value, list) and value:
        return match.each_like(_alike(_under("items", schema), value[0]))
    if isinstance(value, int | float) and not isinstance(value, bool):
        whole = _under("type", schema) == "integer"
        return match.int(int(value)) if whole else match.number(value)
    return match.like(value)


def _under(word: str, schema: Any) -> Any:
    """What stands under ``word``, {} where the schema has no such word."""
    return schema.get(word, {}) if isinstance(schema, dict) else {}


def _size(value: Any) -> int:
    """How many values there are in ``value``."""
    if isinstance(value, dict | list):
        return sum(map(_size, value.values() if isinstance(value, dict) else value))
    return 1
