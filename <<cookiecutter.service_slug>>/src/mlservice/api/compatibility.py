"""Decides whether a change of a contract breaks clients.

A changed request contract breaks callers unless every message that was valid is still valid. A
changed response contract breaks readers unless every message that is now valid was valid before,
for a reader who ignores unknown fields. Both are questions whether one set of messages contains
another. jsonschema-rs, which also validates the messages, proves this or reports that it cannot.
A change without a proof counts as breaking. So does a field that is no longer described, even if
it may still be sent.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import jsonschema_rs
from jsonschema_rs.canonical import CanonicalizationError, Containment

from mlservice.api.schema_diff import SchemaDifference, differences

Side = Literal["request", "response"]

REASONS: dict[Side, str] = {
    "request": "a request that was valid may be refused",
    "response": "an answer may differ from what was promised",
}
GONE = "a field that others know is gone"
UNKNOWN = "the meaning of this keyword is not known here"
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
# Below one of these, an object that allows more fields could refuse messages.
_TURNING = frozenset({"contains", "if", "not", "oneOf"})
_VALUES = frozenset({"const", "default", "enum", "examples"})


@dataclass(frozen=True)
class ContractChange:
    """A change at ``place`` of a contract; ``breaks`` is why it breaks clients, or empty."""

    place: str
    what: str
    breaks: str = ""


def compare(old: Any, new: Any, side: Side) -> list[ContractChange]:
    """Return the changes between two contracts of the same ``side``, which must be JSON Schemas."""
    found = differences(old, new)
    words_alone = all(difference.keyword in _WORDS for difference in found)
    harmless = words_alone or _proof(old, new, side) == Containment.YES
    changes = [
        ContractChange(
            difference.place, difference.what, _reason(difference, old, side, harmless=harmless)
        )
        for difference in found
    ]
    if not harmless and not any(change.breaks for change in changes):
        changes.append(ContractChange("#", "all changes together", UNPROVEN))
    return changes


def as_readers_see(schema: Any) -> Any:
    """Return a response's ``schema`` in which all objects allow more fields.

    It is unchanged if a reference could lead to an object from below a ``not`` or the like.
    """
    keys = set(_keywords(schema))
    if "$ref" in keys and keys & _TURNING:
        return schema
    return _opened(schema)


def _reason(difference: SchemaDifference, old: Any, side: Side, *, harmless: bool) -> str:
    if difference.keyword in _WORDS:
        return ""
    if difference.keyword not in _RULES:
        return UNKNOWN
    if difference.removes_field:
        return GONE
    if harmless or _proof(old, difference.apply(old), side) == Containment.YES:
        return ""
    return UNPROVEN if _proof(*difference.alone(), side) == Containment.UNKNOWN else REASONS[side]


def _proof(old: Any, new: Any, side: Side) -> Containment:
    """Whether clients of ``old`` can work with ``new``."""
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
    # One difference alone may be no valid schema: it may refer to what only another one adds.
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
