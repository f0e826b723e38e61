"""HCL's operators on plain values.

Python's own would be wrong: in HCL ``1 == "1"`` is false, ``true + 1`` is an error, and 4 / 2 is
the integer 2. All functions raise ``Unsuitable`` for a type that the operator does not accept.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

from mlservice.jobspec.types import (
    Unsuitable,
    to_bool,
    to_number,
    to_string,
    type_name,
)

_NUMBERS: dict[str, Callable[[Any, Any], Any]] = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "/": operator.truediv,
    "%": lambda a, b: a - b * int(a / b),
    "<": operator.lt,
    ">": operator.gt,
    "<=": operator.le,
    ">=": operator.ge,
}


def combine(word: str, left: Any, right: Any) -> Any:
    """Return ``left word right``. Values of different types are never equal."""
    if word in ("==", "!="):
        return _equal(left, right) == (word == "==")
    if left is None or right is None:
        raise Unsuitable("argument must not be null")
    if word == "&&":
        return to_bool(left) and to_bool(right)
    if word == "||":
        return to_bool(left) or to_bool(right)
    return plain_number(_NUMBERS[word](to_number(left), to_number(right)))


def negate(word: str, value: Any) -> Any:
    """Return ``!value`` or ``-value``."""
    if value is None:
        raise Unsuitable("argument must not be null")
    return not to_bool(value) if word == "!" else -to_number(value)


def plain_number(value: Any) -> Any:
    """Return a float without a fraction as an int."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value


def unified(values: list[Any], chosen: int) -> Any:
    """Return the chosen value, as the type that both branches of a condition can have."""
    one, other = values[chosen], values[1 - chosen]
    if one is None or other is None or type_name(one) == type_name(other):
        return one
    primitive = [not isinstance(value, list | dict) for value in values]
    if all(primitive) and "string" in map(type_name, values):
        return to_string(one)
    raise Unsuitable(
        "The true and false result expressions must have consistent types. The 'true' value is "
        f"{type_name(values[0])}, but the 'false' value is {type_name(values[1])}."
    )


def _equal(left: Any, right: Any) -> bool:
    if type_name(left) != type_name(right):
        return False
    if isinstance(left, list):
        return len(left) == len(right) and all(map(_equal, left, right))
    if isinstance(left, dict):
        return left.keys() == right.keys() and all(_equal(left[k], right[k]) for k in left)
    return bool(left == right)
