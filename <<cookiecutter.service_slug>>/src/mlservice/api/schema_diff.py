"""Finds the single differences between two JSON Schemas, each with its place.

Each can be applied to the old schema alone, so that ``compatibility`` can judge it without the
others. Nothing is judged here.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

Path = tuple[str | int, ...]

_BY_NAME = ("properties", "patternProperties", "$defs", "dependentSchemas")
_IN_ORDER = ("allOf", "anyOf", "oneOf", "prefixItems")
_SETS = ("enum", "required")
_ONE = (
    "additionalProperties", "contains", "else", "if", "items", "not", "propertyNames", "then",
    "unevaluatedItems", "unevaluatedProperties",
)  # fmt: skip
_ABSENT = object()
_MAX_SHOWN = 60


@dataclass(frozen=True)
class SchemaDifference:
    """One difference: what happened to a ``keyword`` (of the schema itself: none), and where."""

    keyword: str
    path: Path
    what: str
    before: Any
    after: Any

    @property
    def place(self) -> str:
        """The place as a JSON Pointer."""
        return "/".join(["#", *(_escaped(part) for part in self.path)])

    @property
    def removes_field(self) -> bool:
        """Whether a field of an object is no longer described."""
        return self.keyword == "properties" and self.after is _ABSENT

    def apply(self, schema: Any) -> Any:
        """Return the old ``schema`` with this difference alone."""
        return _put(schema, self.path, self.after)

    def alone(self) -> tuple[Any, Any]:
        """Return the schemas before and after, with only this keyword."""
        return self._only(self.before), self._only(self.after)

    def _only(self, value: Any) -> Any:
        if value is _ABSENT:
            return {}
        if not self.keyword:
            return value
        named = self.path[-1] != self.keyword
        return {self.keyword: {self.path[-1]: value} if named else value}


def differences(old: Any, new: Any) -> list[SchemaDifference]:
    """Return the differences that turn ``old`` into ``new``, in the order of their names."""
    return list(_schema(old, new, ()))


def _schema(old: Any, new: Any, path: Path) -> Iterator[SchemaDifference]:
    if isinstance(old, dict) and isinstance(new, dict):
        for keyword in sorted(old.keys() | new.keys()):
            before, after = old.get(keyword, _ABSENT), new.get(keyword, _ABSENT)
            if not _same(before, after):
                yield from _keyword(keyword, before, after, (*path, keyword))
    elif not _same(old, new):
        yield SchemaDifference("", path, f"was {_shown(old)}, is {_shown(new)}", old, new)


def _keyword(keyword: str, before: Any, after: Any, path: Path) -> Iterator[SchemaDifference]:
    both = {type(before), type(after)}
    if both == {dict} and keyword in _BY_NAME:
        yield from _names(keyword, before, after, path)
    elif both == {dict} and keyword in _ONE:
        yield from _schema(before, after, path)
    elif both == {list} and keyword in _IN_ORDER and len(before) == len(after):
        for number, (old, new) in enumerate(zip(before, after, strict=True)):
            yield from _schema(old, new, (*path, number))
    elif both == {list} and keyword in _SETS:
        yield from _members(keyword, before, after, path)
    else:
        yield SchemaDifference(keyword, path, _what(before, after), before, after)


def _names(keyword: str, before: Any, after: Any, path: Path) -> Iterator[SchemaDifference]:
    for name in sorted(before.keys() | after.keys()):
        old, new = before.get(name, _ABSENT), after.get(name, _ABSENT)
        if _ABSENT in (old, new):
            yield SchemaDifference(keyword, (*path, name), _what(old, new), old, new)
        else:
            yield from _schema(old, new, (*path, name))


def _members(keyword: str, before: Any, after: Any, path: Path) -> Iterator[SchemaDifference]:
    for gone in _without(before, after):
        rest = _without(before, [gone])
        yield SchemaDifference(keyword, path, f"{_shown(gone)} is gone", before, rest)
    for added in _without(after, before):
        yield SchemaDifference(keyword, path, f"{_shown(added)} is new", before, [*before, added])


def _without(members: list[Any], others: list[Any]) -> list[Any]:
    return [member for member in members if not any(_same(member, other) for other in others)]


def _put(schema: Any, path: Path, value: Any) -> Any:
    """Return a copy of ``schema`` with ``value`` at ``path``, or without that path."""
    if not path:
        return value
    first, rest = path[0], path[1:]
    changed = schema.copy()
    if rest:
        changed[first] = _put(schema[first], rest, value)
    elif value is _ABSENT:
        del changed[first]
    else:
        changed[first] = value
    return changed


def _what(before: Any, after: Any) -> str:
    if before is _ABSENT:
        return f"is new: {_shown(after)}"
    return "is gone" if after is _ABSENT else f"was {_shown(before)}, is {_shown(after)}"


def _same(one: Any, other: Any) -> bool:
    """Whether both are the same JSON; Python alone would take true for 1."""
    if _ABSENT in (one, other):
        return one is other
    return json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)


def _shown(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= _MAX_SHOWN else f"{text[:_MAX_SHOWN]}…"


def _escaped(part: str | int) -> str:
    return str(part).replace("~", "~0").replace("/", "~1")
