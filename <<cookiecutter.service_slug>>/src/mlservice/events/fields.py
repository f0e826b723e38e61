"""Reads the fields of an event's JSON, and reports which field is wrong and its value.

Written by hand instead of a validating model: the statistics service reads millions of events,
and a check of one field costs a tenth of a microsecond.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, TypeVar, cast

from mlservice.errors import EventError

_MISSING = object()
_MAX_SHOWN = 80
_NUMBERS = frozenset({int, float})
"""The types of JSON's numbers; ``isinstance`` would be slower, and take a bool."""
_TEXTS = frozenset({str})
T = TypeVar("T", bound=str)


class EventFields:
    """The JSON object of one event. Each method raises ``EventError`` for a wrong field."""

    def __init__(self, content: Mapping[str, Any]) -> None:
        """Read from ``content``."""
        self._content = content

    def moment(self, name: str) -> float:
        """A date and time with an offset, as seconds since 1970."""
        value = self.text(name)
        try:
            moment = datetime.fromisoformat(value)
        except ValueError:
            raise self._wrong(name, "a date and time (RFC 3339)") from None
        if moment.tzinfo is None:
            raise self._wrong(name, "a date and time with an offset, such as Z")
        return moment.timestamp()

    def text(self, name: str) -> str:
        """A string."""
        value = self._content.get(name, _MISSING)
        if isinstance(value, str):
            return value
        raise self._wrong(name, "a string")

    def optional_text(self, name: str) -> str | None:
        """A string, or None for null and for a missing field."""
        return None if self._content.get(name) is None else self.text(name)

    def choice(self, name: str, choices: Mapping[str, T]) -> T | None:
        """One of ``choices``, or None for null and for a missing field."""
        value = self.optional_text(name)
        if value is None:
            return None
        if value not in choices:
            raise self._wrong(name, " or ".join(choices))
        return choices[value]

    def number(self, name: str, low: float, high: float) -> float:
        """A number from ``low`` to ``high``."""
        value = self._content.get(name, _MISSING)
        if type(value) in _NUMBERS and low <= value <= high:
            return cast(float, value)
        raise self._wrong(name, f"a number from {low:g} to {high:g}")

    def optional_count(self, name: str) -> int | None:
        """A whole number from 0, or None for null and for a missing field."""
        value = self._content.get(name)
        if value is None:
            return None
        if isinstance(value, float) and value.is_integer():
            value = int(value)  # JSON Schema holds 1.0 for an integer
        if type(value) is int and value >= 0:
            return value
        raise self._wrong(name, "a whole number from 0")

    def texts(self, name: str) -> tuple[str, ...]:
        """A list of strings."""
        value = self._content.get(name, _MISSING)
        if isinstance(value, list) and {*map(type, value)} <= _TEXTS:
            return tuple(value)
        raise self._wrong(name, "a list of strings")

    def numbers(self, name: str) -> Mapping[str, float]:
        """An object whose values are numbers from 0."""
        value = self._content.get(name, _MISSING)
        if isinstance(value, dict):
            items = value.values()
            if {*map(type, items)} <= _NUMBERS and min(items, default=0) >= 0:
                return value
        raise self._wrong(name, "an object whose values are numbers from 0")

    def anything(self, name: str) -> Any:
        """Any JSON value, also null."""
        value = self._content.get(name, _MISSING)
        if value is _MISSING:
            raise self._wrong(name, "any JSON value")
        return value

    def _wrong(self, name: str, wanted: str) -> EventError:
        if name not in self._content:
            return EventError(f"{name} is missing: give {wanted}")
        value = repr(self._content[name])
        shown = value if len(value) <= _MAX_SHOWN else f"{value[:_MAX_SHOWN]}…"
        return EventError(f"{name} = {shown}: give {wanted}")
