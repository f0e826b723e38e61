"""Compares versions of Nomad, because some behaviour depends on them."""

from __future__ import annotations


def at_least(version: str, other: str) -> bool:
    """Whether ``version`` is ``other`` or newer; both are MAJOR.MINOR.PATCH."""
    return _numbers(version) >= _numbers(other)


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split("-")[0].split("."))
