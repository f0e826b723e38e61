"""What the path knows of a request besides its body: its id, its user and its one deadline.

Every hop takes the same absolute deadline, so that no hop has to subtract what the others took.
"""

from __future__ import annotations

from time import perf_counter
from typing import NamedTuple


class RequestContext(NamedTuple):
    """A request's id and user; it ``started`` and must end by ``deadline``, by ``perf_counter``."""

    request_id: str
    user: str | None
    started: float
    deadline: float

    @classmethod
    def begin(cls, request_id: str, user: str | None, timeout: float) -> RequestContext:
        """The context of a request that starts now and may take ``timeout`` seconds."""
        started = perf_counter()
        return cls(request_id, user, started, started + timeout)


def milliseconds_left(deadline: float, now: float) -> int:
    """Whole milliseconds until ``deadline``, 0 if it is over."""
    return max(0, int((deadline - now) * 1000))
