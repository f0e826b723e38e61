"""A circuit breaker: asks no more of an upstream that fails, until one call has tried it again.

It opens where half of the last calls failed, since an upstream that fails every second call
never fails often in a row; what libraries offer counts failures in a row, follows the wall clock
and lets everybody try at once when it half opens. (Nygard, "Release It!", chapter 5.)
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
FEWEST = 5
COOL_SECONDS = 2.0
LONGEST_COOL = 30.0
_LEVELS: dict[State, int] = {"closed": 0, "half-open": 1, "open": 2}
log = logging.getLogger("mlservice.gateway")


class Breaker:
    """The breaker of one upstream.

    Ask ``allows``; with the ticket that it gives say ``succeeded``, ``failed``, or ``given_up``
    where the call came to no end. What comes of a call from before the breaker changed is not
    counted.
    """

    def __init__(self, name: str, clock: Callable[[], float] = time.monotonic) -> None:
        """Begin closed."""
        self._name = name
        self._clock = clock
        self._failures: deque[bool] = deque(maxlen=WINDOW)
        self._cool = COOL_SECONDS
        self._opened = 0.0
        self._trying = False
        self._ticket = 1
        self.state: State = "closed"
        self._gauge = metrics.BREAKER.labels(name)
        self._opens = metrics.BREAKER_OPENS.labels(name)

    def allows(self) -> int:
        """A ticket for a call that may be made now, else 0."""
        if self.state == "open" and self._clock() - self._opened >= self._cool:
            self._become("half-open")
            self._trying = False
        if self.state == "half-open" and not self._trying:
            self._trying = True
            return self._ticket
        return self._ticket if self.state == "closed" else 0

    def succeeded(self, ticket: int) -> None:
        """A call was answered well."""
        if ticket != self._ticket:
            return
        if self.state == "half-open":
            self._failures.clear()
            self._cool = COOL_SECONDS
            self._become("closed")
        else:
            self._failures.append(False)

    def failed(self, ticket: int) -> None:
        """A call was not answered, too late, or with what its schema does not allow."""
        if ticket != self._ticket:
            return
        if self.state == "half-open":
            self._cool = min(2 * self._cool, LONGEST_COOL)
            self._open()
        else:
            self._failures.append(True)
            if len(self._failures) >= FEWEST and 2 * sum(self._failures) >= len(self._failures):
                self._open()

    def given_up(self, ticket: int) -> None:
        """A call was cancelled: nothing is known from it, and another one may try."""
        if ticket == self._ticket:
            self._trying = False

    def _open(self) -> None:
        self._opened = self._clock()
        self._opens.inc()
        self._become("open")

    def _become(self, state: State) -> None:
        level = logging.WARNING if state == "open" else logging.INFO
        log.log(level, "the breaker of upstream %s is %s", self._name, state)
        self.state = state
        self._ticket += 1
        self._gauge.set(_LEVELS[state])
