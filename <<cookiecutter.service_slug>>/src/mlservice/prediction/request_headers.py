"""Reads a request's headers (id, user, timeout), in the same way over HTTP and Kafka."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from itertools import count
from typing import Any

from mlservice.errors import Fault, InvalidHeader

REQUEST_ID = "[A-Za-z0-9_.:-]{1,64}"
MAX_TIMEOUT_MS = 600_000
MAX_USER_BYTES = 256
# The descriptions in the OpenAPI document.
HEADERS: dict[str, tuple[str, dict[str, Any]]] = {
    "X-Request-Id": (
        f"Returned in the response and logged; replaced if it does not match {REQUEST_ID}",
        {"type": "string"},
    ),
    "X-User-Id": (
        "The user: the same user gets the same variants",
        {"type": "string", "minLength": 1, "maxLength": MAX_USER_BYTES},
    ),
    "X-Request-Timeout-Ms": (
        "Time that the request may take",
        {"type": "integer", "minimum": 1, "maximum": MAX_TIMEOUT_MS},
    ),
    "X-Debug-Timing": (
        "With any value, the response has a Server-Timing header with the time of each stage",
        {"type": "string"},
    ),
}
_PROCESS = os.urandom(10).hex()
_NUMBERS = count()
_REQUEST_ID = re.compile(REQUEST_ID.encode())


def request_id(headers: Mapping[bytes, bytes]) -> str:
    """``X-Request-Id`` if it can be used, else a new id that no other process makes."""
    return usable_id(headers) or f"{_PROCESS}{next(_NUMBERS):08x}"


def usable_id(headers: Mapping[bytes, bytes]) -> str | None:
    """``X-Request-Id``; None if it is missing or cannot be used."""
    given = headers.get(b"x-request-id")
    return given.decode() if given and _REQUEST_ID.fullmatch(given) else None


def user(headers: Mapping[bytes, bytes]) -> str | None:
    """``X-User-Id``, None if it is missing; raises ``InvalidHeader`` if it cannot be used."""
    given = headers.get(b"x-user-id")
    if given is None:
        return None
    try:
        found = given.decode()
    except UnicodeDecodeError:
        found = ""
    if not found or len(given) > MAX_USER_BYTES or not found.isprintable():
        rule = f"give 1 to {MAX_USER_BYTES} bytes of printable UTF-8, or leave the header out"
        raise _invalid("X-User-Id", given, rule)
    return found


def timeout(headers: Mapping[bytes, bytes], default: float) -> float:
    """Seconds that the request may take: ``X-Request-Timeout-Ms``, or ``default``.

    Raises ``InvalidHeader`` if the header is not a number of milliseconds in range.
    """
    given = headers.get(b"x-request-timeout-ms")
    if given is None:
        return default
    if not (given.isdigit() and len(given) < 9 and 1 <= int(given) <= MAX_TIMEOUT_MS):
        rule = f"give whole milliseconds from 1 to {MAX_TIMEOUT_MS}"
        raise _invalid("X-Request-Timeout-Ms", given, rule)
    return int(given) / 1000


def _invalid(name: str, value: bytes, rule: str) -> InvalidHeader:
    fault = Fault(name, value[:80].decode("latin-1"), rule)
    return InvalidHeader("a header cannot be used", [fault])
