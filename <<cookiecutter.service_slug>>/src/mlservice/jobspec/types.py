"""Type constraints of variables, and HCL's conversions between types.

HCL converts in places where Python does not: the number 5 fits a string variable as ``"5"``, and
the string ``"true"`` fits a bool. Numbers are Python's int or float here, strings str, lists, sets
and tuples list, maps and objects dict, null None.
"""

from __future__ import annotations

import json
from typing import Any

from lark import Tree

from mlservice.jobspec.diagnostics import refuse
from mlservice.jobspec.source import Expression, SyntaxNode

_PRIMITIVES = ("string", "number", "bool", "any")
_COLLECTIONS = ("list", "set", "map")
TypeConstraint = str | tuple[str, Any]


class Unsuitable(Exception):
    """A value that cannot be converted. The message is that of go-cty."""


def read_kind(expression: Expression) -> TypeConstraint:
    """Return the type that a variable's ``type`` names: string, list(T), object({...}) ..."""
    return _kind(expression.node, expression)


def _kind(node: SyntaxNode, expression: Expression) -> TypeConstraint:
    inner = _inner(node)
    if inner.data == "identifier":
        word = expression.source.words(inner)
        if word in _PRIMITIVES:
            return word
        if word in ("list", "set", "map"):
            return (word, "any")
    if inner.data == "function_call":
        return _constructed(inner, expression)
    raise refuse(
        expression.place,
        "Invalid type specification",
        f'The keyword "{expression.source.words(node)}" is not a valid type specification.',
    )


def _constructed(node: SyntaxNode, expression: Expression) -> TypeConstraint:
    word = expression.source.words(_trees(node)[0])
    arguments = [
        each for tree in _trees(node)[1:] if tree.data == "arguments" for each in _trees(tree)
    ]
    if word in _COLLECTIONS and len(arguments) == 1:
        return (word, _kind(arguments[0], expression))
    if word == "object" and len(arguments) == 1:
        return ("object", _fields(_inner(arguments[0]), expression))
    if word == "tuple" and len(arguments) == 1:
        items = _trees(_inner(arguments[0]))
        return ("tuple", [_kind(item, expression) for item in items])
    raise refuse(
        expression.place,
        "Invalid type specification",
        f"Keyword {json.dumps(word)} is not a valid type constructor.",
    )


def _fields(node: SyntaxNode, expression: Expression) -> dict[str, TypeConstraint]:
    fields = {}
    for element in _trees(node):
        if element.data == "object_elem":
            key, value = _trees(element)
            fields[expression.source.words(key).strip('"')] = _kind(value, expression)
    return fields


def _inner(node: SyntaxNode) -> SyntaxNode:
    while node.data in ("expr_term", "object_elem_key") and len(_trees(node)) == 1:
        node = _trees(node)[0]
    return node


def _trees(node: SyntaxNode) -> list[SyntaxNode]:
    return [
        child
        for child in node.children
        if isinstance(child, Tree) and child.data != "new_line_or_comment"
    ]


def convert(value: Any, kind: TypeConstraint) -> Any:
    """Return ``value`` as ``kind``; raise ``Unsuitable``."""
    if value is None or kind == "any":
        return value
    if isinstance(kind, str):
        return {"string": to_string, "number": to_number, "bool": to_bool}[kind](value)
    name, inner = kind
    if name in ("list", "set"):
        return _to_list(value, name, inner)
    if name == "map":
        return _to_map(value, inner)
    if name == "object":
        return _to_object(value, inner)
    if not isinstance(value, list) or len(value) != len(inner):
        raise Unsuitable("tuple required")
    return [convert(item, each) for item, each in zip(value, inner, strict=True)]


def _to_list(value: Any, name: str, inner: TypeConstraint) -> list[Any]:
    if not isinstance(value, list):
        raise Unsuitable(f"{name} of {kind_name(inner)} required")
    items = [convert(item, inner) for item in value]
    return items if name == "list" else [v for i, v in enumerate(items) if v not in items[:i]]


def _to_map(value: Any, inner: TypeConstraint) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise Unsuitable(f"map of {kind_name(inner)} required")
    return {key: convert(item, inner) for key, item in value.items()}


def _to_object(value: Any, fields: dict[str, TypeConstraint]) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise Unsuitable("object required")
    for name in fields:
        if name not in value:
            raise Unsuitable(f'attribute "{name}" is required')
    return {name: convert(value[name], each) for name, each in fields.items()}


def kind_name(kind: TypeConstraint) -> str:
    """Return the name of a type in messages."""
    if isinstance(kind, str):
        return "dynamic" if kind == "any" else kind
    return f"{kind[0]} of {kind_name(kind[1])}" if kind[0] in _COLLECTIONS else kind[0]


def to_string(value: Any) -> str:
    """Return the text of a primitive; raise ``Unsuitable`` for lists and maps."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return number_text(value)
    raise Unsuitable("string required")


def number_text(value: float) -> str:
    """Return a number as HCL writes it: no exponent, no trailing zeros."""
    if isinstance(value, int) or value.is_integer():
        return str(int(value))
    return f"{value:.15g}" if "e" not in f"{value:.15g}" else f"{value:.20f}".rstrip("0")


def to_number(value: Any) -> int | float:
    """Return a number, also from a string that spells one; raise ``Unsuitable``."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return value
    if isinstance(value, str):
        try:
            return int(value)
        except ValueError:
            try:
                return float(value)
            except ValueError:
                raise Unsuitable("a number is required") from None
    raise Unsuitable("number required")


def to_bool(value: Any) -> bool:
    """Return a bool, also from a string that spells one; raise ``Unsuitable``."""
    if isinstance(value, bool):
        return value
    if value in ("true", "1", "false", "0") and isinstance(value, str):
        return value in ("true", "1")
    if isinstance(value, str):
        raise Unsuitable("a bool is required")
    raise Unsuitable("bool required")


def type_name(value: Any) -> str:
    """Return the name of a value's type in messages."""
    if value is None:
        return "dynamic"
    for kind, name in ((bool, "bool"), (str, "string"), (dict, "object"), (list, "tuple")):
        if isinstance(value, kind):
            return name
    return "number"
