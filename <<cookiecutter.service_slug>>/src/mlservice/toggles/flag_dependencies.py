"""Finds what a flag's rule depends on: the cache key of its result, and the salt of its buckets."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from pydantic import JsonValue

from mlservice.live import Flag, FlagSet, operations

_USER = "targetingKey"
_FLAGD = "$flagd"
_OPAQUE = frozenset({"missing", "missing_some", "map", "filter", "reduce", "all", "some", "none"})


@dataclass(frozen=True)
class Dependencies:
    """Whether a rule depends on the user, and on which attributes of the request."""

    user: bool
    attributes: tuple[str, ...]


def dependencies_of(flags: FlagSet) -> Mapping[str, Dependencies | None]:
    """The dependencies of each flag; None if they are unknown or include the time."""
    return {name: _dependencies(flag, flags) for name, flag in flags.flags.items()}


def salts_of(flags: FlagSet) -> Mapping[str, str]:
    """The salt of each flag that randomises the user; flagd takes the flag's name for it.

    Flags without a share are left out, and those that name a bucketing value of their own.
    """
    return {name: name for name, flag in flags.flags.items() if _randomises_user(flag, flags)}


def _dependencies(flag: Flag, flags: FlagSet) -> Dependencies | None:
    roots: set[str] = set()
    user = False
    for operator, argument in _all_operations(flag.targeting, flags):
        if operator in _OPAQUE:
            return None
        if operator == "fractional":
            user = True  # its own bucketing value, if it has one, is a variable besides
        if operator == "var":
            path = argument[0] if isinstance(argument, list) and argument else argument
            if not isinstance(path, str) or not path or path.startswith(f"{_FLAGD}.time"):
                return None
            roots.add(path.split(".")[0])
    attributes = tuple(sorted(roots - {_USER, _FLAGD}))
    return Dependencies(user or _USER in roots, attributes)


def _randomises_user(flag: Flag, flags: FlagSet) -> bool:
    arguments = [
        argument
        for operator, argument in _all_operations(flag.targeting, flags)
        if operator == "fractional"
    ]
    # A first argument that is no [variant, weight] is a bucketing value of the rule's own.
    return bool(arguments) and all(
        isinstance(argument, list) and argument and isinstance(argument[0], list)
        for argument in arguments
    )


def _all_operations(rule: JsonValue, flags: FlagSet) -> Iterator[tuple[str, JsonValue]]:
    """The operations of the rule, and of the shared rules that it refers to directly or not."""
    waiting, seen = [rule], set()
    while waiting:
        for operator, argument in operations(waiting.pop()):
            yield operator, argument
            if operator == "$ref" and isinstance(argument, str) and argument not in seen:
                seen.add(argument)
                waiting.append(flags.evaluators[argument])
