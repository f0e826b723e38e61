"""The one table that maps errors to HTTP: status, header, meaning and remedy.

The OpenAPI document and the page on problem codes are made from it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from typing import NamedTuple

from mlservice import errors
from mlservice.contracts import Contract
from mlservice.errors import RequestError, TooManyRequests, Unavailable
from mlservice.prediction.problem_details import problem_details

PROBLEM = b"application/problem+json"
Headers = tuple[tuple[bytes, bytes], ...]


class Problem(NamedTuple):
    """How one class of errors looks over HTTP; ``header`` is the header that it adds, if any."""

    status: int
    meaning: str
    remedy: str
    header: str | None = None


_TRY_AGAIN = "Try again after the seconds in Retry-After."
_READ_THE_LOG = "Look up the request id in the service's log."
PROBLEMS: Mapping[type[RequestError], Problem] = {
    errors.NotJson: Problem(400, "The body is not valid JSON.", "Send one JSON object in UTF-8."),
    errors.RepeatedKey: Problem(400, "An object has a key twice.", "Send each key once."),
    errors.InvalidHeader: Problem(
        400,
        "A header cannot be used.",
        "Follow the rule in `faults`, or leave the header out.",
    ),
    errors.Unauthorized: Problem(
        401,
        "The request has no known token, and this gateway requires one.",
        "Send `Authorization: Bearer TOKEN`; the service's owner hands tokens out.",
        "WWW-Authenticate",
    ),
    errors.PathNotFound: Problem(404, "There is no such path.", "See /docs."),
    errors.MethodNotAllowed: Problem(
        405, "This path has another method.", "Use the method in Allow.", "Allow"
    ),
    errors.RequestTooLarge: Problem(
        413, "The body is too large.", "Send less, or raise `[gateway] max_request_bytes`."
    ),
    errors.BrokenContract: Problem(
        422,
        "The body breaks its contract, or a rule of the service's code.",
        "Correct the fields that `faults` names.",
    ),
    errors.InvalidReward: Problem(
        422, "The reward breaks its contract.", "Correct the fields that `faults` names."
    ),
    errors.TooManyRequests: Problem(
        429, "The client sends more requests than its rate allows.", _TRY_AGAIN, "Retry-After"
    ),
    errors.PredictionFailed: Problem(
        500, "The model gave no usable score for this request.", _READ_THE_LOG
    ),
    errors.InvalidResponse: Problem(500, "The response breaks its contract.", _READ_THE_LOG),
    errors.ResponseTooLarge: Problem(500, "The response is too large.", _READ_THE_LOG),
    errors.InternalError: Problem(500, "The request met a bug.", _READ_THE_LOG),
    errors.Unavailable: Problem(503, "No worker can predict now.", _TRY_AGAIN, "Retry-After"),
    errors.Overloaded: Problem(503, "Too many requests are waiting.", _TRY_AGAIN, "Retry-After"),
    errors.DeadlineExceeded: Problem(
        504,
        "The request's deadline has passed.",
        "Set a longer time in X-Request-Timeout-Ms, or try again.",
    ),
}


def _by_status() -> dict[int, dict[str, Problem]]:
    found: dict[int, dict[str, Problem]] = defaultdict(dict)
    for kind, problem in PROBLEMS.items():
        found[problem.status].setdefault(kind.code, problem)
    return dict(found)


BY_STATUS: Mapping[int, Mapping[str, Problem]] = _by_status()
"""The problems of each status by their codes. A later version may add codes."""
PROBLEM_CONTRACT = Contract(
    "problem",
    {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Why there is no prediction (problem details, RFC 9457)",
        "type": "object",
        "required": ["type", "title", "status", "detail", "request_id", "faults"],
        "properties": {
            "type": {
                "description": "The kind of error, for programs",
                "type": "string",
                "pattern": "^urn:mlservice:problem:[a-z_]+$",
            },
            "title": {"description": "The kind of error, for people", "type": "string"},
            "status": {"type": "integer", "enum": list(BY_STATUS)},
            "detail": {"description": "What happened this time", "type": "string"},
            "request_id": {
                "description": "Your X-Request-Id, or a new id; the log has it too",
                "type": "string",
            },
            "faults": {
                "description": "Everything that is wrong with the request",
                "type": "array",
                "items": {
                    "type": "object",
                    "required": ["field", "value", "rule"],
                    "properties": {
                        "field": {"description": "The field's path", "type": "string"},
                        "value": {"description": "The value that the field has"},
                        "rule": {"description": "The rule that it breaks", "type": "string"},
                    },
                },
            },
        },
    },
)


def problem_of(error: RequestError) -> Problem:
    """Return the row for the class of ``error``, or for its nearest base class."""
    return next(PROBLEMS[kind] for kind in type(error).__mro__ if kind in PROBLEMS)


def problem_body(error: RequestError, request_id: str) -> bytes:
    """Return the response body for ``error``."""
    return problem_details(error, problem_of(error).status, request_id)


def problem_headers(error: RequestError) -> Headers:
    """Return the headers that ``error`` adds to the response."""
    if isinstance(error, Unavailable | TooManyRequests):
        return ((b"retry-after", b"%d" % error.retry_after),)
    header = problem_of(error).header
    if header == "WWW-Authenticate":
        return ((b"www-authenticate", b"Bearer"),)
    return ((b"allow", b"POST"),) if header == "Allow" else ()
