"""Checks messages against the JSON Schemas in contracts/, the only definition of their form.

jsonschema-rs takes less than a microsecond for a flat message, so every request and response is
checked. A message that fails gets all its faults at once, each with field, value and rule. Numbers
must be finite in both directions: JSON has no NaN and no infinity.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema_rs
import orjson

from mlservice.errors import ContractError, Fault, NotJson, RepeatedKey

_MAX_VALUE_LENGTH = 80
_MAX_FAULTS = 20


class Contract:
    """A compiled JSON Schema (draft 2020-12, formats are checked)."""

    def __init__(self, name: str, schema: dict[str, Any]) -> None:
        """Compile ``schema``; raises ``ContractError`` if it is not a valid JSON Schema."""
        self.name = name
        self.schema = schema
        try:
            jsonschema_rs.meta.validate(schema)
            self._validator = jsonschema_rs.Draft202012Validator(schema, validate_formats=True)
        except (jsonschema_rs.ValidationError, ValueError) as error:
            raise ContractError(f"{name}: not a valid JSON Schema: {error}") from error

    @classmethod
    def load(cls, path: Path) -> Contract:
        """Read the schema in ``path``; raises ``ContractError`` if that fails."""
        try:
            return cls(path.name, json.loads(path.read_text("utf-8")))
        except (OSError, ValueError) as error:
            raise ContractError(f"{path}: cannot be read: {error}") from error

    def faults(self, message: Any) -> tuple[Fault, ...]:
        """Return what is wrong with ``message``; empty if it keeps the contract."""
        if self._validator.is_valid(message):
            return ()
        errors = list(self._validator.iter_errors(message))[:_MAX_FAULTS]
        return tuple(fault for error in errors for fault in _faults_of(error))


def load_examples(folder: Path, kind: str) -> dict[str, Any]:
    """Read the examples of a contract, ``folder/KIND.NAME.json``, by name; may be empty.

    Raises ``ContractError`` if a file is not JSON.
    """
    found = {}
    for path in sorted(folder.glob(f"{kind}.*.json")):
        name = path.name.removeprefix(f"{kind}.").removesuffix(".json")
        try:
            found[name] = json.loads(path.read_text("utf-8"))
        except (OSError, ValueError) as error:
            raise ContractError(f"{path}: cannot be read: {error}") from error
    return found


def parse(body: bytes) -> Any:
    """Decode a JSON request body.

    Raises ``NotJson`` if the body is not JSON, is not UTF-8, nests too deeply or holds a number
    that is not finite, and ``RepeatedKey`` if an object has a key twice.
    """
    try:
        message = orjson.loads(body)
        # Fewer colons after the round trip mean that a repeated key was dropped. A backslash may
        # hide a colon, so such a body also goes through the slow parser.
        if orjson.dumps(message).count(b":") != body.count(b":") or b"\\" in body:
            json.loads(body, object_pairs_hook=_refuse_repeated_keys)
    except orjson.JSONDecodeError as error:
        raise NotJson(f"the body is not valid JSON: {error}") from None
    except (RecursionError, orjson.JSONEncodeError):  # orjson reads deeper than it writes
        raise NotJson("the body nests too deeply") from None
    return message


def _refuse_repeated_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            fault = Fault(key, _display_value(value), "an object may have a key only once")
            raise RepeatedKey(f"the key '{key}' is repeated", [fault])
        found[key] = value
    return found


def _faults_of(error: jsonschema_rs.ValidationError) -> list[Fault]:
    """Return the faults behind one broken rule, each under the name of its field."""
    path = [str(part) for part in error.instance_path]
    rule = _shorten(error.message)
    kind = error.kind
    if isinstance(kind, jsonschema_rs.ValidationErrorKind.Required):
        return [Fault("/".join([*path, str(kind.property)]), None, "is missing")]
    if isinstance(kind, jsonschema_rs.ValidationErrorKind.AdditionalProperties):
        names = list(kind.unexpected)[:_MAX_FAULTS]
        return [_unknown_field(path, name, error.instance) for name in names]
    return [Fault("/".join(path) or "(the whole message)", _display_value(error.instance), rule)]


def _unknown_field(path: list[str], name: str, instance: Any) -> Fault:
    return Fault("/".join([*path, _shorten(name)]), _display_value(instance[name]), "is unknown")


def _display_value(value: Any) -> Any:
    """Return ``value`` if it is a number, boolean or null, else a shortened text of it."""
    if value is None or isinstance(value, bool | int | float):
        return value
    return _shorten(value if isinstance(value, str) else orjson.dumps(value).decode())


def _shorten(text: str) -> str:
    return text if len(text) <= 4 * _MAX_VALUE_LENGTH else f"{text[:_MAX_VALUE_LENGTH]}…"
