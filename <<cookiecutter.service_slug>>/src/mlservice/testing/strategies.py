"""Hypothesis strategies for messages that keep a JSON Schema.

hypothesis-jsonschema does not work with current versions of hypothesis, so this module replaces it.
It covers what contracts use: objects, arrays, strings (enum, pattern, date-time, lengths), numbers
with bounds, booleans, null, const, anyOf and oneOf. It refuses any other keyword by name.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from typing import Any

from hypothesis import strategies as st

from mlservice.contracts import Contract
from mlservice.errors import ContractError

_MAX_NUMBER = 1e15
_FORMATS = ("date-time", "date")


def messages(contract: Contract) -> st.SearchStrategy[Any]:
    """Return messages that keep ``contract``; raises ``ContractError`` for an unknown schema."""
    return _strategy(contract.schema, contract.name).filter(lambda m: not contract.faults(m))


def _strategy(schema: dict[str, Any], where: str) -> st.SearchStrategy[Any]:
    if "const" in schema:
        return st.just(schema["const"])
    if "enum" in schema:
        return st.sampled_from(schema["enum"])
    for choice in ("anyOf", "oneOf"):
        if choice in schema:
            return st.one_of([_strategy(option, where) for option in schema[choice]])
    kind = schema.get("type")
    if isinstance(kind, list):
        return st.one_of([_strategy({**schema, "type": each}, where) for each in kind])
    makers: dict[str, Callable[[dict[str, Any], str], st.SearchStrategy[Any]]] = {
        "object": _object,
        "array": _array,
        "string": _string,
        "number": _number,
        "integer": _integer,
        "boolean": lambda _schema, _where: st.booleans(),
        "null": lambda _schema, _where: st.none(),
    }
    if not isinstance(kind, str) or kind not in makers:
        raise ContractError(f"{where}: no messages can be made for {schema}: give it a 'type'")
    return makers[kind](schema, where)


def _object(schema: dict[str, Any], where: str) -> st.SearchStrategy[Any]:
    fields = {
        name: _strategy(field, f"{where}/{name}")
        for name, field in schema.get("properties", {}).items()
    }
    required = set(schema.get("required", ()))
    named = st.fixed_dictionaries(
        {name: fields[name] for name in fields if name in required},
        optional={name: fields[name] for name in fields if name not in required},
    )
    others = schema.get("additionalProperties")
    if not isinstance(others, dict):
        return named
    more = st.dictionaries(st.text(max_size=20), _strategy(others, f"{where}/*"), max_size=5)
    return st.tuples(more, named).map(lambda pair: {**pair[0], **pair[1]})


def _array(schema: dict[str, Any], where: str) -> st.SearchStrategy[Any]:
    return st.lists(
        _strategy(schema.get("items", {"type": "null"}), where),
        min_size=schema.get("minItems", 0),
        max_size=schema.get("maxItems", 5),
    )


def _string(schema: dict[str, Any], where: str) -> st.SearchStrategy[Any]:
    named = schema.get("format")
    if named in _FORMATS:
        return _date_times(named)
    if named:
        raise ContractError(
            f"{where}: no strings can be made for format '{named}': use {' or '.join(_FORMATS)}"
        )
    if "pattern" in schema:
        return st.from_regex(schema["pattern"], fullmatch=True)
    return st.text(min_size=schema.get("minLength", 0), max_size=schema.get("maxLength", 20))


def _date_times(named: str) -> st.SearchStrategy[str]:
    offsets = st.integers(-12 * 60, 12 * 60).map(lambda m: timezone(timedelta(minutes=m)))
    moments = st.datetimes(datetime(2000, 1, 1), datetime(2099, 12, 31), timezones=offsets)
    if named == "date":
        return moments.map(lambda moment: moment.date().isoformat())
    return moments.map(lambda moment: moment.replace(microsecond=0).isoformat())


def _number(schema: dict[str, Any], _: str) -> st.SearchStrategy[Any]:
    return st.floats(
        min_value=schema.get("minimum", schema.get("exclusiveMinimum", -_MAX_NUMBER)),
        max_value=schema.get("maximum", schema.get("exclusiveMaximum", _MAX_NUMBER)),
        exclude_min="exclusiveMinimum" in schema,
        exclude_max="exclusiveMaximum" in schema,
        allow_nan=False,
        allow_infinity=False,
    )


def _integer(schema: dict[str, Any], _: str) -> st.SearchStrategy[Any]:
    return st.integers(schema.get("minimum", -(2**53)), schema.get("maximum", 2**53))
