"""The common part of all reads: blocking, prefixes, filters and pages.

Blocking queries are how a client follows Nomad, and their details decide whether it misses a
change: which index counts, when a wait ends, what an invalid argument does.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mlservice.jobspec.durations import parse_duration
from nomad_double.filters import compile_filter
from nomad_double.refusal import ApiError
from nomad_double.state import State
from nomad_double.transport import Answer, Request, as_json

Json = dict[str, Any]
_MAX_WAIT_SECONDS = 300.0
_JITTER = 1 / 16
_NUMBERS = {
    "index": "Invalid index",
    "per_page": "Expect a number for `per_page` query string parameter",
}


@dataclass(frozen=True)
class Query:
    """A read's common arguments; ``wait`` is in seconds, and ``index`` 0 does not wait."""

    namespace: str
    prefix: str
    filter: str
    index: int
    wait: float
    per_page: int
    next_token: str
    reverse: bool


def read_query(request: Request) -> Query:
    """Return the arguments of a read; raise ``ApiError`` (400) for invalid ones."""
    if request.arg("stale", "true") not in ("", "true", "false"):
        raise ApiError("Expect `true` or `false` for `stale` query string parameter", 400)
    return Query(
        request.arg("namespace") or "default",
        request.arg("prefix"),
        request.arg("filter"),
        _number(request, "index"),
        _wait(request),
        _number(request, "per_page"),
        request.arg("next_token"),
        request.arg("reverse") == "true",
    )


def blocking(
    state: State, query: Query, index: Callable[[], int], value: Callable[[], Any]
) -> Answer:
    """Wait for an index above the query's, then answer ``value()`` with the index."""
    if query.index:
        wait = query.wait + random.uniform(0, query.wait * _JITTER)  # noqa: S311  # no secret
        state.wait(index, query.index, wait)
    with state.lock:
        found, at = value(), index()
    if isinstance(found, ApiError):
        raise found
    return read_answer(found, at)


def read_answer(value: Any, index: int, next_token: str = "") -> Answer:
    """Return an answer with the headers that reads have."""
    headers = {"X-Nomad-LastContact": "0", "X-Nomad-KnownLeader": "true"}
    if isinstance(value, Page):
        next_token, value = value.next_token, value.items
    if next_token:
        headers["X-Nomad-NextToken"] = next_token
    return as_json(value, index, **headers)


@dataclass(frozen=True)
class Page:
    """A part of a list, and the beginning of the next part."""

    items: list[Any]
    next_token: str


def listed(
    query: Query,
    items: Sequence[Any],
    fields: Callable[[Any], Mapping[str, Any]],
    token: Callable[[Any], str],
    shown: Callable[[Any], Any],
) -> Page:
    """Return the query's page of ``items``.

    ``fields`` are what a filter sees, and ``token`` names an item for the next page.
    """
    if query.reverse:
        items = list(reversed(items))
    if query.filter:
        test = compile_filter(query.filter)
        items = [item for item in items if test(fields(item))]
    if query.next_token:
        at = next((i for i, item in enumerate(items) if token(item) == query.next_token), None)
        items = items[at:] if at is not None else _after(items, token, query.next_token)
    rest = ""
    if query.per_page and len(items) > query.per_page:
        rest = token(items[query.per_page])
        items = items[: query.per_page]
    return Page([shown(item) for item in items], rest)


def read_body(request: Request) -> Json:
    """Return the request's JSON; raise ``ApiError`` (400) with Go's words if it is none."""
    if not request.body:
        raise ApiError("Request body is empty", 400)
    try:
        body = json.loads(request.body)
    except ValueError:
        raise ApiError(_bad_json(request.body), 400) from None
    if not isinstance(body, dict):
        raise ApiError("json: cannot unmarshal array into Go value", 400)
    return body


def field(body: Mapping[str, Any], name: str, default: Any = None) -> Any:
    """Return a field of a body. The case of its key does not matter, and null is missing."""
    for key, value in body.items():
        if key.lower() == name.lower() and value is not None:
            return value
    return default


def _after(items: Sequence[Any], token: Callable[[Any], str], start: str) -> list[Any]:
    return [item for item in items if token(item) >= start]


def _bad_json(body: bytes) -> str:
    text = body.decode(errors="replace").strip()
    if text[:1] in "{[" and text[-1:] not in "}]":
        return "unexpected EOF"
    return f"invalid character '{text[:1]}' looking for beginning of value"


def _number(request: Request, name: str) -> int:
    text = request.arg(name)
    if not text:
        return 0
    if not text.isdigit():
        raise ApiError(_NUMBERS[name], 400)
    return int(text)


def _wait(request: Request) -> float:
    text = request.arg("wait")
    if not text:
        return _MAX_WAIT_SECONDS
    try:
        wait = parse_duration(text) / 1e9
    except ValueError:
        raise ApiError("Invalid wait time", 400) from None
    return min(wait, _MAX_WAIT_SECONDS) or _MAX_WAIT_SECONDS
