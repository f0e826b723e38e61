"""Errors as HTTP shows them: problem details (RFC 9457), never anything of the inside."""

from __future__ import annotations

import orjson

from mlservice.contracts import Contract
from mlservice.errors import RequestRefused, Unavailable
from mlservice.gateway.admission import TooOften

PROBLEM = b"application/problem+json"
# A caller may meet other codes in a later version: the status says what kind of error it is.
CODES = {
    400: ("not_json", "repeated_key", "invalid_header", "disconnected"),
    401: ("unauthorized",),
    404: ("not_found",),
    405: ("method_not_allowed",),
    413: ("too_large",),
    422: ("invalid_request", "invalid_reward"),
    429: ("too_many_requests",),
    500: ("prediction_failed", "invalid_response", "internal"),
    503: ("unavailable", "overloaded"),
    504: ("deadline_exceeded",),
}
FORM = Contract(
    "problem",
    {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Why there is no answer (problem details, RFC 9457)",
        "type": "object",
        "required": ["type", "title", "status", "detail", "request_id", "faults"],
        "properties": {
            "type": {
                "description": "The kind of error, for programs",
                "type": "string",
                "pattern": "^urn:mlservice:problem:[a-z_]+$",
            },
            "title": {"description": "The kind of error, for people", "type": "string"},
            "status": {"type": "integer", "enum": list(CODES)},
            "detail": {"description": "What happened this time", "type": "string"},
            "request_id": {
                "description": "Your X-Request-Id, or one made here; the log has it too",
                "type": "string",
            },
            "faults": {
                "description": "All that is wrong with the request, at once",
                "type": "array",
                "items": {
                    "type": "object",
                    "required": ["field", "value", "rule"],
                    "properties": {
                        "field": {"description": "Where", "type": "string"},
                        "value": {"description": "What stands there"},
                        "rule": {"description": "The rule that it breaks", "type": "string"},
                    },
                },
            },
        },
    },
)
Headers = tuple[tuple[bytes, bytes], ...]


def problem(error: RequestRefused, request_id: str) -> bytes:
    """The body that tells of ``error``."""
    body = {
        "type": f"urn:mlservice:problem:{error.code}",
        "title": error.code.replace("_", " "),
        "status": error.status,
        "detail": error.detail,
        "request_id": request_id,
        "faults": [vars(fault) for fault in error.faults],
    }
    try:
        return orjson.dumps(body)
    except orjson.JSONEncodeError:  # an owner's check may show any value
        faults = [
            {"field": _utf8(fault.field), "value": ascii(fault.value), "rule": _utf8(fault.rule)}
            for fault in error.faults
        ]
        return orjson.dumps(body | {"detail": _utf8(error.detail), "faults": faults})


def _utf8(text: str) -> str:
    return text.encode("utf-8", "backslashreplace").decode()


def headers_of(error: RequestRefused) -> Headers:
    """What an error adds to the headers."""
    if error.status == 401:
        return ((b"www-authenticate", b"Bearer"),)
    if isinstance(error, Unavailable | TooOften):
        return ((b"retry-after", b"%d" % error.retry_after),)
    return ((b"allow", b"POST"),) if error.status == 405 else ()
