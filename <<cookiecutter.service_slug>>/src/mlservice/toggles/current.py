"""The one function by which the owner's code asks for a toggle.

Which request it asks for is known by the context, so that ``features`` and ``respond`` need no
further argument. Outside of a request, such as in training, every toggle has its default.
"""

from __future__ import annotations

from contextvars import ContextVar
from typing import Protocol, TypeVar

T = TypeVar("T", bool, int, float, str)


class Answers(Protocol):
    """Whoever answers for the request at hand."""

    def value(self, name: str, default: T) -> T:
        """The value of the flag ``name``."""


CURRENT: ContextVar[Answers | None] = ContextVar("toggles", default=None)


def toggle(name: str, default: T) -> T:
    """The value that the flag ``name`` has for the user of the request at hand.

    ``default`` says its type, and is the value where there is no such flag, where it is off, or
    where it cannot be evaluated. Each call tells the analysis that the user was shown a variant,
    so ask where it is used, and not before.
    """
    answers = CURRENT.get()
    return default if answers is None else answers.value(name, default)
