"""What the path knows about a request besides its body: its id, its user and its deadline.

Every hop gets the same absolute deadline, so none has to subtract the time that others took.
"""

from __future__ import annotations

from time import perf_counter
from typing import NamedTuple


class RequestContext(NamedTuple):
    """A request's id and user, and its start and deadline in seconds of ``perf_counter``."""

    request_id: str
    user: str | None
    started: float
    deadline: float

    @classmethod
    def begin(cls, request_id: str, user: str | None, timeout: float) -> RequestContext:
        """Make the context of a request that starts now and may take ``timeout`` seconds."""
        started = perf_counter()
        return cls(request_id, user, started, started + timeout)


def milliseconds_left(deadline: float, now: float) -> int:
    """Whole milliseconds until ``deadline``, 0 if it has passed."""
    return max(0, int((deadline - now) * 1000))
