"""What the headers of a request say: who asks, under which name, and how long it may take."""

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
# As the OpenAPI document shows them.
HEADERS: dict[str, tuple[str, dict[str, Any]]] = {
    "X-Request-Id": (
        f"Comes back in the answer and in the log; one that is not like {REQUEST_ID} is replaced",
        {"type": "string"},
    ),
    "X-User-Id": (
        "Who asks: the same user gets the same variants",
        {"type": "string", "minLength": 1, "maxLength": MAX_USER_BYTES},
    ),
    "X-Request-Timeout-Ms": (
        "Time that the request may take",
        {"type": "integer", "minimum": 1, "maximum": MAX_TIMEOUT_MS},
    ),
    "X-Debug-Timing": (
        "With any value, the answer tells by Server-Timing what took how long",
        {"type": "string"},
    ),
}
_PROCESS = os.urandom(10).hex()
_NUMBERS = count()
_REQUEST_ID = re.compile(REQUEST_ID.encode())


def request_id(headers: Mapping[bytes, bytes]) -> str:
    """``X-Request-Id`` where it can be used, else a new one that no other process makes."""
    return usable_id(headers) or f"{_PROCESS}{next(_NUMBERS):08x}"


def usable_id(headers: Mapping[bytes, bytes]) -> str | None:
    """``X-Request-Id``, None where there is none or none that can be used."""
    given = headers.get(b"x-request-id")
    return given.decode() if given and _REQUEST_ID.fullmatch(given) else None


def user(headers: Mapping[bytes, bytes]) -> str | None:
    """``X-User-Id``, None where there is none; raises ``InvalidHeader`` for what is no id."""
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
    """Seconds that the request may take: ``X-Request-Timeout-Ms``, or ``default``."""
    wish = headers.get(b"x-request-timeout-ms")
    if wish is None:
        return default
    if not (wish.isdigit() and len(wish) < 9 and 1 <= int(wish) <= MAX_TIMEOUT_MS):
        rule = f"give whole milliseconds from 1 to {MAX_TIMEOUT_MS}"
        raise _invalid("X-Request-Timeout-Ms", wish, rule)
    return int(wish) / 1000


def _invalid(name: str, value: bytes, rule: str) -> InvalidHeader:
    fault = Fault(name, value[:80].decode("latin-1"), rule)
    return InvalidHeader("a header cannot be used", [fault])
