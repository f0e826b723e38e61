"""Makes the OpenAPI document from the same schemas that the code checks with.

No schema is written twice. Request and response come from ``contracts/``, rewards and problem
details from the modules that read and write them, and limits from the settings. FastAPI's generator
is not used, because the hot routes bypass FastAPI (see ``endpoint``).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import metadata
from typing import Any

from mlservice.contracts import Contract, load_examples
from mlservice.errors import Fault
from mlservice.gateway.endpoint import PREDICT_PATH, REWARD, REWARD_PATH
from mlservice.gateway.problems import BY_STATUS, PROBLEM, PROBLEM_CONTRACT, PROBLEMS, problem_body
from mlservice.prediction import request_headers
from mlservice.settings import Settings

VERSION = "3.1.1"
OpenApiDocument = dict[str, Any]

_INTRODUCTION = """\
Every request and every response is checked against the schemas below. Errors are problem details
(RFC 9457), also for unknown paths and methods. Numbers are finite: JSON has no NaN.
Ignore unknown fields of a response: later versions may add some."""
_RESPONSES = {
    400: "BadRequest",
    401: "Unauthorized",
    405: "MethodNotAllowed",
    413: "TooLarge",
    422: "BrokenContract",
    429: "TooOften",
    500: "Failed",
    503: "Unavailable",
    504: "Late",
}
"""Names of the document's responses; generated clients use them in their code."""


@dataclass(frozen=True)
class Release:
    """Version and summary of the service, from its installed package."""

    version: str = "0"
    summary: str = ""


@dataclass(frozen=True)
class Contracts:
    """The contracts of request and response, and the examples of both by name."""

    request: Contract
    response: Contract
    examples: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


def read_document(settings: Settings) -> OpenApiDocument:
    """Make the document of the service in ``settings``; raises ``ContractError``."""
    folder = settings.contracts
    contracts = Contracts(
        Contract.load(folder / "request.schema.json"),
        Contract.load(folder / "response.schema.json"),
        {kind: load_examples(folder / "examples", kind) for kind in ("request", "response")},
    )
    return make_document(settings, contracts, _read_release(settings.service.package))


def make_document(settings: Settings, contracts: Contracts, release: Release) -> OpenApiDocument:
    """Make the document for these contracts."""
    return {
        "openapi": VERSION,
        "info": {
            "title": settings.service.name,
            **({"summary": release.summary} if release.summary else {}),
            "description": _INTRODUCTION,
            "version": release.version,
            "contact": {"email": settings.service.owner},
        },
        "paths": {
            PREDICT_PATH: {"post": _predict(contracts.examples, settings.gateway.deadline_ms)},
            REWARD_PATH: {"post": _reward()},
            "/live": {"get": _live()},
            "/ready": {"get": _ready()},
        },
        "components": {
            "securitySchemes": {"bearer": {"type": "http", "scheme": "bearer"}},
            "schemas": {
                "Request": _embed(contracts.request.schema, "Request"),
                "Response": _embed(contracts.response.schema, "Response"),
                "Reward": _embed(REWARD.schema, "Reward"),
                "Problem": _embed(PROBLEM_CONTRACT.schema, "Problem"),
            },
            "parameters": _PARAMETERS,
            "headers": _HEADERS,
            "responses": {
                name: _problem(status, settings.gateway.max_request_bytes)
                for status, name in _RESPONSES.items()
            },
        },
    }


def _read_release(package: str) -> Release:
    """Read the metadata of the owner's package. Package and module names differ only in dashes."""
    try:
        found = metadata.metadata(package)
    except metadata.PackageNotFoundError:
        return Release()
    return Release(found["Version"], found["Summary"] or "")


def _predict(examples: Mapping[str, Mapping[str, Any]], deadline_ms: int) -> OpenApiDocument:
    return {
        "operationId": "predict",
        "security": [{}, {"bearer": []}],
        "tags": ["predictions"],
        "summary": "Predict",
        "description": f"Without X-Request-Timeout-Ms, a request may take {deadline_ms} ms.",
        "parameters": [_ref("parameters", name) for name in _PARAMETERS],
        "requestBody": {"required": True, "content": _json("Request", examples.get("request"))},
        "responses": {
            "200": {
                "description": "The prediction",
                "headers": {
                    name: _ref("headers", name) for name in ("X-Fallback", "Server-Timing")
                },
                "content": _json("Response", examples.get("response")),
            },
            **_error_responses(400, 401, 405, 413, 422, 429, 500, 503, 504),
        },
    }


def _reward() -> OpenApiDocument:
    accepted = {
        "type": "object",
        "required": ["request_id"],
        "properties": {"request_id": REWARD.schema["properties"]["request_id"]},
    }
    return {
        "operationId": "reward",
        "security": [{}, {"bearer": []}],
        "tags": ["predictions"],
        "summary": "Report what a prediction turned out to be worth",
        "description": "It may be sent again: only the first reward of a request counts.",
        "parameters": [_ref("parameters", "X-Request-Id")],
        "requestBody": {"required": True, "content": _json("Reward")},
        "responses": {
            "202": {
                "description": "The reward is accepted and counts once",
                "content": {"application/json": {"schema": accepted}},
            },
            **_error_responses(400, 401, 405, 413, 422, 429, 500),
        },
    }


def _live() -> OpenApiDocument:
    return {
        "operationId": "live",
        "tags": ["health"],
        "summary": "Whether the process is alive",
        "responses": {"200": _health("The process is alive", "alive"), **_error_responses(405)},
    }


def _ready() -> OpenApiDocument:
    return {
        "operationId": "ready",
        "tags": ["health"],
        "summary": "Whether requests can be answered",
        "responses": {
            "200": _health("Requests can be answered", "ready"),
            "503": _health(
                "No worker can predict, or the gateway is stopping", "not ready", "reason"
            ),
            **_error_responses(405),
        },
    }


def _health(description: str, status: str, *more: str) -> OpenApiDocument:
    schema = {
        "type": "object",
        "required": ["status", *more],
        "properties": {"status": {"const": status}, **{name: {"type": "string"} for name in more}},
    }
    return {"description": description, "content": {"application/json": {"schema": schema}}}


def _json(schema: str, examples: Mapping[str, Any] | None = None) -> OpenApiDocument:
    content: OpenApiDocument = {"schema": _ref("schemas", schema)}
    if examples:
        content["examples"] = {name: {"value": value} for name, value in examples.items()}
    return {"application/json": content}


def _error_responses(*statuses: int) -> OpenApiDocument:
    return {str(status): _ref("responses", _RESPONSES[status]) for status in statuses}


def _problem(status: int, limit: int) -> OpenApiDocument:
    rows = BY_STATUS[status]
    words = " ".join(f"`{code}`: {row.meaning} {row.remedy}" for code, row in rows.items())
    if status == 413:
        words += f" A body may not have more than {limit} bytes."
    content = {"schema": _ref("schemas", "Problem"), "example": _example(status)}
    response: OpenApiDocument = {"description": words, "content": {PROBLEM.decode(): content}}
    if name := next(iter(rows.values())).header:
        response["headers"] = {name: _ref("headers", name)}
    return response


def _example(status: int) -> Any:
    """An example of a problem with this status, as callers see it."""
    kind = next(kind for kind, row in PROBLEMS.items() if row.status == status)
    error = kind.__new__(kind)  # its constructor may need arguments that an example does not have
    error.detail = PROBLEMS[kind].meaning
    error.faults = (Fault("name", None, "is missing"),) if status == 422 else ()
    return json.loads(problem_body(error, "7f3c9a51-2"))


def _embed(schema: Any, name: str) -> Any:
    """Copy a schema, with its references to itself changed to its place in the document."""
    if isinstance(schema, list):
        return [_embed(item, name) for item in schema]
    if (
        not isinstance(schema, dict) or "$id" in schema
    ):  # its references are relative to its own $id
        return schema
    found = {key: _embed(value, name) for key, value in schema.items()}
    reference = schema.get("$ref")
    if isinstance(reference, str) and (reference == "#" or reference.startswith("#/")):
        found["$ref"] = f"#/components/schemas/{name}{reference[1:]}"
    return found


def _ref(kind: str, name: str) -> dict[str, str]:
    return {"$ref": f"#/components/{kind}/{name}"}


_PARAMETERS = {
    name: {"name": name, "in": "header", "description": words, "schema": schema}
    for name, (words, schema) in request_headers.HEADERS.items()
}
_HEADERS = {
    "WWW-Authenticate": {
        "description": "The authentication scheme to use",
        "schema": {"const": "Bearer"},
    },
    "Allow": {"description": "The method of this path", "schema": {"type": "string"}},
    "Retry-After": {
        "description": "Seconds after which to try again",
        "schema": {"type": "integer", "minimum": 1},
    },
    "X-Fallback": {
        "description": "Upstreams whose fallback was used; `version` if another version answered",
        "schema": {"type": "string"},
    },
    "Server-Timing": {
        "description": "Milliseconds of each stage, in total, and left until the deadline (W3C)",
        "schema": {"type": "string"},
    },
}
