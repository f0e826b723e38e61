"""Limits retries to a tenth of the calls, and allows a few if there are not many calls.

Without a budget, retries double the load of a service just when it fails, and keep it failing
(Google's SRE book, chapter 22, "Retries").
"""

from __future__ import annotations

import time
from collections.abc import Callable

from mlservice.observe import metrics

_RETRIES_PER_CALL = 0.1
_SAVED_PER_SECOND = 2.0
_MAX_SAVED = 20.0


class RetryBudget:
    """The retries that may be made now; ``of`` names the budget in the metrics."""

    def __init__(self, of: str, clock: Callable[[], float] = time.monotonic) -> None:
        """Begin with a full budget."""
        self._refused = metrics.RETRIES_REFUSED.labels(of)
        self._clock = clock
        self._at = clock()
        self._left = _MAX_SAVED

    def earn(self) -> None:
        """Add a tenth of a retry for one call."""
        self._left = min(_MAX_SAVED, self._left + _RETRIES_PER_CALL)

    def spend(self) -> bool:
        """Take one retry from the budget; returns False if there is none."""
        now = self._clock()
        self._left = min(_MAX_SAVED, self._left + (now - self._at) * _SAVED_PER_SECOND)
        self._at = now
        if self._left < 1:
            self._refused.inc()
            return False
        self._left -= 1
        return True
