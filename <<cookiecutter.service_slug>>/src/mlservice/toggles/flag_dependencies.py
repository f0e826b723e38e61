"""What a flag's rule looks at, so that its result can be kept for as long as that is the same."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from pydantic import JsonValue

from mlservice.live import Flag, FlagSet, operations

_USER = "targetingKey"
_INSIDE = "$flagd"
_OPAQUE = frozenset({"missing", "missing_some", "map", "filter", "reduce", "all", "some", "none"})


@dataclass(frozen=True)
class Looks:
    """Whether a rule looks at the user, and at which attributes of the request."""

    user: bool
    attributes: tuple[str, ...]


def looks_of(flags: FlagSet) -> Mapping[str, Looks | None]:
    """What each flag looks at; None where that cannot be told, or is the time."""
    return {name: _looks(flag, flags) for name, flag in flags.flags.items()}


def _looks(flag: Flag, flags: FlagSet) -> Looks | None:
    roots: set[str] = set()
    user = False
    for operator, argument in _all_operations(flag.targeting, flags):
        if operator in _OPAQUE:
            return None
        if operator == "fractional":
            user = True  # unless it says otherwise, which then is a variable
        if operator == "var":
            path = argument[0] if isinstance(argument, list) and argument else argument
            if not isinstance(path, str) or not path or path.startswith(f"{_INSIDE}.time"):
                return None
            roots.add(path.split(".")[0])
    attributes = tuple(sorted(roots - {_USER, _INSIDE}))
    return Looks(user or _USER in roots, attributes)


def _all_operations(rule: JsonValue, flags: FlagSet) -> Iterator[tuple[str, JsonValue]]:
    """Those of the rule and of the shared rules that it, or one of them, refers to."""
    waiting, seen = [rule], set()
    while waiting:
        for operator, argument in operations(waiting.pop()):
            yield operator, argument
            if operator == "$ref" and isinstance(argument, str) and argument not in seen:
                seen.add(argument)
                waiting.append(flags.evaluators[argument])
