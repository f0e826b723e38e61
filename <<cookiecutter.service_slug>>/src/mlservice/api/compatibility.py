"""Whether a change of a contract breaks those who rely on it.

A request breaks callers unless every message that kept the old contract keeps the new one. A
response breaks readers unless every message that keeps the new contract keeps the old one, as a
reader sees it who ignores fields that he does not know. Both ask whether one set of messages lies
in another, and jsonschema-rs, which checks the messages themselves, proves that or says that it
cannot. What is not proven counts as breaking, and so does a field that is not described any more,
even where it may still be sent.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import jsonschema_rs
from jsonschema_rs.canonical import CanonicalizationError, Containment

from mlservice.api.schema_diff import Edit, edits

Side = Literal["request", "response"]

REASONS: dict[Side, str] = {
    "request": "a request that was good may be refused",
    "response": "an answer may differ from what was promised",
}
GONE = "a field that others know is gone"
UNKNOWN = "what this keyword means is not known here"
UNPROVEN = "it cannot be proven harmless"
_WORDS = frozenset({"$comment", "deprecated", "description", "examples", "title"})
_RULES = frozenset(
    {
        "", "$defs", "$ref", "additionalProperties", "allOf", "anyOf", "const", "contains",
        "dependentRequired", "dependentSchemas", "else", "enum", "exclusiveMaximum",
        "exclusiveMinimum", "format", "if", "items", "maxContains", "maxItems", "maxLength",
        "maxProperties", "maximum", "minContains", "minItems", "minLength", "minProperties",
        "minimum", "multipleOf", "not", "oneOf", "pattern", "patternProperties", "prefixItems",
        "properties", "propertyNames", "required", "then", "type", "unevaluatedItems",
        "unevaluatedProperties", "uniqueItems",
    }
)  # fmt: skip
_CLOSING = ("additionalProperties", "unevaluatedProperties")
# An object below one of these that may have more fields could refuse messages.
_TURNING = frozenset({"contains", "if", "not", "oneOf"})
_VALUES = frozenset({"const", "default", "enum", "examples"})


@dataclass(frozen=True)
class Change:
    """A difference at ``place`` of a contract; ``breaks`` says why it is breaking, or nothing."""

    place: str
    what: str
    breaks: str = ""


def compare(old: Any, new: Any, side: Side) -> list[Change]:
    """What differs between two contracts of the same ``side``; raises nothing for JSON Schemas."""
    found = edits(old, new)
    words_alone = all(edit.keyword in _WORDS for edit in found)
    harmless = words_alone or _proof(old, new, side) == Containment.YES
    changes = [
        Change(edit.place, edit.what, _reason(edit, old, side, harmless=harmless)) for edit in found
    ]
    if not harmless and not any(change.breaks for change in changes):
        changes.append(Change("#", "all changes together", UNPROVEN))
    return changes


def as_readers_see(schema: Any) -> Any:
    """A response's ``schema`` with objects that may have more fields; nothing else differs.

    It is left as it is where references could lead to it from below a ``not`` and its like.
    """
    keys = set(_keywords(schema))
    if "$ref" in keys and keys & _TURNING:
        return schema
    return _opened(schema)


def _reason(edit: Edit, old: Any, side: Side, *, harmless: bool) -> str:
    if edit.keyword in _WORDS:
        return ""
    if edit.keyword not in _RULES:
        return UNKNOWN
    if edit.removes_field:
        return GONE
    if harmless or _proof(old, edit.apply(old), side) == Containment.YES:
        return ""
    return UNPROVEN if _proof(*edit.alone(), side) == Containment.UNKNOWN else REASONS[side]


def _proof(old: Any, new: Any, side: Side) -> Containment:
    """Whether those who rely on ``old`` are served by ``new``."""
    if side == "request":
        return _covers(new, old)
    return _covers(as_readers_see(old), as_readers_see(new))


def _covers(wide: Any, narrow: Any) -> Containment:
    try:
        sets = [
            jsonschema_rs.canonicalize(
                schema, draft=jsonschema_rs.Draft202012, validate_formats=True, offline=True
            )
            for schema in (wide, narrow)
        ]
        return sets[0].covers(sets[1])
    # A difference by itself may make no schema: a reference to what only another one adds.
    except (CanonicalizationError, jsonschema_rs.ReferencingError, jsonschema_rs.ValidationError):
        return Containment.UNKNOWN


def _opened(schema: Any) -> Any:
    if isinstance(schema, list):
        return [_opened(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    return {
        key: value if key in _TURNING | _VALUES else _opened(value)
        for key, value in schema.items()
        if not (key in _CLOSING and value is False)
    }


def _keywords(schema: Any) -> Iterator[str]:
    if isinstance(schema, dict):
        yield from schema
        schema = list(schema.values())
    if isinstance(schema, list):
        for item in schema:
            yield from _keywords(item)
