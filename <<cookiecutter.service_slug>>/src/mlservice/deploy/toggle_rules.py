"""The common rules of flags, written in flagd's format: a percentage, or a split."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mlservice.live import Flag

_STEPS = 1000
"""Shares are whole multiples of a percent divided by this."""


def is_percentage(value: float) -> bool:
    """Whether ``value`` is from 0 to 100, in steps of 0.001."""
    return 0 <= value <= 100 and abs(value * _STEPS - round(value * _STEPS)) <= 1e-6


def percent_flag(percent: float, allowed: Sequence[str]) -> dict[str, Any]:
    """Return a flag that is on for ``percent`` of the users, and for the ``allowed`` ones."""
    rule = _fractions([("on", percent), ("off", 100 - percent)])
    if allowed:
        rule = {"if": [{"in": [{"var": "targetingKey"}, list(allowed)]}, "on", rule]}
    return _flag({"on": True, "off": False}, "off", rule)


def split_flag(shares: Sequence[tuple[str, float]]) -> dict[str, Any]:
    """Return a flag whose variants have these percentages; the first is the default."""
    return _flag({name: name for name, _ in shares}, shares[0][0], _fractions(shares))


def describe_rule(flag: Flag) -> str:
    """Describe a flag's rule in short."""
    rule: Any = flag.targeting
    if not rule:
        return f"{flag.default} for all"
    if set(rule) == {"fractional"} and all(len(part) == 2 for part in rule["fractional"]):
        total = sum(weight for _, weight in rule["fractional"])
        return ", ".join(f"{n} {100 * weight / total:g} %" for n, weight in rule["fractional"])
    return "a rule: see `toggles show`"


def _fractions(shares: Sequence[tuple[str, float]]) -> dict[str, Any]:
    return {"fractional": [[name, round(share * _STEPS)] for name, share in shares]}


def _flag(variants: Mapping[str, Any], default: str, rule: Any) -> dict[str, Any]:
    return {"state": "ENABLED", "variants": variants, "defaultVariant": default, "targeting": rule}
