"""A circuit breaker: stops calls to an upstream that fails, until one trial call succeeds.

It opens if half of the last calls failed, because an upstream that fails every second call rarely
fails often in a row. The breakers of libraries count failures in a row, use the wall clock, and let
all callers try at once when half open. (Nygard, "Release It!", chapter 5.)
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable
from typing import Literal

from mlservice.observe import metrics

State = Literal["closed", "half-open", "open"]
WINDOW = 20
MIN_CALLS = 5
COOL_SECONDS = 2.0
MAX_COOL_SECONDS = 30.0
_LEVELS: dict[State, int] = {"closed": 0, "half-open": 1, "open": 2}
log = logging.getLogger("mlservice.gateway")


class Breaker:
    """The breaker of one upstream.

    ``acquire`` returns a ticket. Report the call's result with that ticket: ``record_success``,
    ``record_failure``, or ``record_cancel`` if the call did not end. A result is ignored if the
    breaker has changed its state since it gave the ticket.
    """

    def __init__(self, name: str, clock: Callable[[], float] = time.monotonic) -> None:
        """Begin closed."""
        self._name = name
        self._clock = clock
        self._failures: deque[bool] = deque(maxlen=WINDOW)
        self._cool_seconds = COOL_SECONDS
        self._opened = 0.0
        self._trying = False
        self._ticket = 1
        self.state: State = "closed"
        self._gauge = metrics.BREAKER.labels(name)
        self._opens = metrics.BREAKER_OPENS.labels(name)

    def acquire(self) -> int:
        """Return a ticket for a call that may be made now, else 0."""
        if self.state == "open" and self._clock() - self._opened >= self._cool_seconds:
            self._set_state("half-open")
            self._trying = False
        if self.state == "half-open" and not self._trying:
            self._trying = True
            return self._ticket
        return self._ticket if self.state == "closed" else 0

    def record_success(self, ticket: int) -> None:
        """Record a call with a usable answer."""
        if ticket != self._ticket:
            return
        if self.state == "half-open":
            self._failures.clear()
            self._cool_seconds = COOL_SECONDS
            self._set_state("closed")
        else:
            self._failures.append(False)

    def record_failure(self, ticket: int) -> None:
        """Record a call with no answer, a late one, or one that breaks its schema."""
        if ticket != self._ticket:
            return
        if self.state == "half-open":
            self._cool_seconds = min(2 * self._cool_seconds, MAX_COOL_SECONDS)
            self._open()
        else:
            self._failures.append(True)
            if len(self._failures) >= MIN_CALLS and 2 * sum(self._failures) >= len(self._failures):
                self._open()

    def record_cancel(self, ticket: int) -> None:
        """Record a cancelled call: it tells nothing, so another call may try."""
        if ticket == self._ticket:
            self._trying = False

    def _open(self) -> None:
        self._opened = self._clock()
        self._opens.inc()
        self._set_state("open")

    def _set_state(self, state: State) -> None:
        level = logging.WARNING if state == "open" else logging.INFO
        log.log(level, "the breaker of upstream %s is %s", self._name, state)
        self.state = state
        self._ticket += 1
        self._gauge.set(_LEVELS[state])
