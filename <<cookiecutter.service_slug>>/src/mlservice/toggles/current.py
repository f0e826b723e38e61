"""The function by which the owner's code reads a toggle.

A context variable holds the current request's toggles, so ``features`` and ``respond`` need no
further argument. Outside of a request, such as in training, every toggle has its default.
"""

from __future__ import annotations

from contextvars import ContextVar
from typing import Protocol, TypeVar

T = TypeVar("T", bool, int, float, str)


class RequestToggles(Protocol):
    """The toggles of one request."""

    def value(self, name: str, default: T) -> T:
        """The value of the flag ``name``."""


CURRENT_TOGGLES: ContextVar[RequestToggles | None] = ContextVar("toggles", default=None)


def toggle(name: str, default: T) -> T:
    """The value that the flag ``name`` has for the user of the current request.

    ``default`` sets its type. It is the value if there is no such flag, if the flag is off, or if
    it cannot be evaluated. The first call in a request writes an exposure event, so call it where
    the variant is used, and not earlier.
    """
    toggles = CURRENT_TOGGLES.get()
    return default if toggles is None else toggles.value(name, default)
