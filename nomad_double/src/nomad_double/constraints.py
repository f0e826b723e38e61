"""The operators of constraints.

Both sides are texts, from the jobspec and from the node. Nomad compares them as versions, numbers,
sets or regular expressions, depending on the operator.
"""

from __future__ import annotations

import operator
import re

from mlservice.jobspec.versions import at_least

_ORDERS = {"<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge}


def holds(operand: str, left: str, right: str) -> bool:
    """Whether ``left operand right`` holds. An unknown operand never holds."""
    if operand in ("=", "==", "is"):
        return left == right
    if operand in _ORDERS:
        if _numbers(left, right):
            return bool(_ORDERS[operand](float(left), float(right)))
        return bool(_ORDERS[operand](left, right))
    if operand == "regexp":
        return re.search(right, left) is not None
    if operand in ("version", "semver"):
        return all(_version(left, rule.strip()) for rule in right.split(","))
    if operand in ("set_contains", "set_contains_all", "set_contains_any"):
        have, want = ({part.strip() for part in text.split(",")} for text in (left, right))
        return bool(have & want) if operand == "set_contains_any" else want <= have
    return False


def _numbers(*texts: str) -> bool:
    return all(re.fullmatch(r"-?\d+(\.\d+)?", text) for text in texts)


def _version(have: str, rule: str) -> bool:
    found = re.fullmatch(r"(>=|<=|>|<|=|!=)?\s*v?(\d+(?:\.\d+){0,2})", rule)
    if not found or not re.match(r"\d+(\.\d+)*", have):
        return False
    newer, older = at_least(have, found[2]), at_least(found[2], have)
    return {
        ">=": newer, "<=": older, ">": not older, "<": not newer, "!=": not (newer and older),
    }.get(found[1], newer and older)  # fmt: skip
