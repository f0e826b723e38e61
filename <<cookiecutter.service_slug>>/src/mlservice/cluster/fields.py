"""Reads the fields of a JSON answer with the types that they must have.

Nomad writes null for an empty list or map, and leaves out fields that its version does not know.
Both give the default. A value of another type raises ``ClusterError``: then something else than
Nomad answers, or a version that no one has tried.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from mlservice.errors import ClusterError

log = logging.getLogger("mlservice.cluster")
Value = TypeVar("Value")


class Fields:
    """One JSON object of an answer; ``what`` names it in messages."""

    def __init__(self, what: str, found: object) -> None:
        """Raise ``ClusterError`` if ``found`` is no JSON object."""
        if not isinstance(found, dict):
            raise _unreadable(what, found, "an object")
        self.what = what
        self.found: dict[str, Any] = found

    def required(self, name: str) -> str:
        """Return a text that must be there."""
        found = self.found.get(name)
        if not isinstance(found, str) or not found:
            raise _unreadable(f"{self.what}: {name}", found, "a text")
        return found

    def text(self, name: str) -> str:
        """Return a text; empty by default."""
        return self._read(name, str, "a text", "")

    def number(self, name: str, default: int = 0) -> int:
        """Return a whole number."""
        return self._read(name, int, "a whole number", default)

    def flag(self, name: str) -> bool:
        """Return a truth value; false by default."""
        return self._read(name, bool, "true or false", False)

    def object(self, name: str) -> Fields:
        """Return an inner object; empty by default."""
        return Fields(f"{self.what}: {name}", self._read(name, dict, "an object", {}))

    def names(self, name: str) -> tuple[str, ...]:
        """Return the keys of an inner object."""
        return tuple(self.object(name).found)

    def texts(self, name: str) -> tuple[str, ...]:
        """Return a list of texts."""
        items: list[Any] = self._read(name, list, "a list", [])
        return tuple(item for item in items if isinstance(item, str))

    def text_map(self, name: str) -> dict[str, str]:
        """Return an inner object whose values are texts."""
        inner = self.object(name)
        return {key: inner.text(key) for key in inner.found}

    def counts(self, name: str) -> dict[str, int]:
        """Return an inner object whose values are whole numbers."""
        inner = self.object(name)
        return {key: inner.number(key) for key in inner.found}

    def list_of(self, name: str, decode: Callable[[Fields], Value]) -> tuple[Value, ...]:
        """Return a list of decoded objects, without those that cannot be decoded."""
        items: list[Any] = self._read(name, list, "a list", [])
        return tuple(decode_each(f"{self.what}: {name}", items, decode))

    def map_of(self, name: str, decode: Callable[[Fields], Value]) -> dict[str, Value]:
        """Return an inner object of decoded objects, without those that cannot be decoded."""
        inner = self.object(name)
        found = {}
        for key, item in inner.found.items():
            for value in decode_each(f"{inner.what}: {key}", [item], decode):
                found[key] = value
        return found

    def _read(self, name: str, kind: type[Value], wanted: str, default: Value) -> Value:
        found = self.found.get(name)
        if found is None:
            return default
        if not isinstance(found, kind) or (kind is int and isinstance(found, bool)):
            raise _unreadable(f"{self.what}: {name}", found, wanted)
        return found


def decode_each(what: str, items: object, decode: Callable[[Fields], Value]) -> Iterator[Value]:
    """Decode each item of a list; null is an empty list. Raises ``ClusterError`` for no list.

    An item that cannot be decoded is left out with a warning, so that it costs no other item.
    """
    if items is None:
        return
    if not isinstance(items, list):
        raise _unreadable(what, items, "a list")
    for item in items:
        try:
            yield decode(Fields(what, item))
        except ClusterError as error:
            log.warning("%s; it is left out", error)


def _unreadable(what: str, found: object, wanted: str) -> ClusterError:
    shown = repr(found)
    return ClusterError(
        f"{what} = {shown[:80]}: Nomad should answer {wanted} here: check that the address is that "
        "of Nomad's API, and that nothing between rewrites its answers"
    )
