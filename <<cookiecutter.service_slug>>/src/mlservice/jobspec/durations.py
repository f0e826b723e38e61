"""Durations as Go writes them.

Jobspecs and queries have strings such as ``1m30s``, and the API has nanoseconds. Python's
``timedelta`` cannot hold a nanosecond, so durations are integers here.
"""

from __future__ import annotations

import re
from decimal import Decimal

_UNITS = {
    "ns": 1, "us": 1_000, "µs": 1_000, "μs": 1_000, "ms": 1_000_000, "s": 1_000_000_000,
    "m": 60_000_000_000, "h": 3_600_000_000_000,
}  # fmt: skip
_PART = re.compile(r"(\d+\.?\d*|\.\d+)(ns|us|µs|μs|ms|s|m|h)")
SECOND = 1_000_000_000
MINUTE = 60 * SECOND
HOUR = 60 * MINUTE


def parse_duration(text: str) -> int:
    """Return the nanoseconds; raise ``ValueError`` with Go's words for an invalid duration."""
    sign, rest = (-1, text[1:]) if text.startswith("-") else (1, text.removeprefix("+"))
    if rest == "0":
        return 0
    if not rest:
        raise ValueError(f'time: invalid duration "{text}"')
    total, at = Decimal(0), 0
    for part in _PART.finditer(rest):
        if part.start() != at:
            break
        total += Decimal(part[1]) * _UNITS[part[2]]
        at = part.end()
    if at != len(rest):
        number = re.match(r"[\d.]+$", rest[at:])
        raise ValueError(
            f'time: missing unit in duration "{text}"'
            if number
            else f'time: invalid duration "{text}"'
        )
    return sign * int(total)


def format_duration(nanoseconds: int) -> str:
    """Return the text as Go writes it: ``30m0s``, ``16.2s``, ``250ms``."""
    if nanoseconds == 0:
        return "0s"
    sign, size = ("-" if nanoseconds < 0 else ""), abs(nanoseconds)
    if size < SECOND:
        unit = next(name for name in ("ms", "us", "ns") if size >= _UNITS[name])
        return f"{sign}{_decimal(size, _UNITS[unit])}{'µs' if unit == 'us' else unit}"
    hours, rest = divmod(size, HOUR)
    minutes, rest = divmod(rest, MINUTE)
    text = f"{_decimal(rest, SECOND)}s"
    if hours or minutes:
        text = f"{minutes}m{text}"
    if hours:
        text = f"{hours}h{text}"
    return f"{sign}{text}"


def _decimal(size: int, unit: int) -> str:
    return f"{(Decimal(size) / unit).normalize():f}"
