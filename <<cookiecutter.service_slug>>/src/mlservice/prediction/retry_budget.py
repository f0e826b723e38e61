"""A budget for retries: they may be a tenth of the calls, and a few where there are not many.

Without one, every caller's second try doubles the load of a service just when it is in trouble,
and keeps it there (Google's SRE book, chapter 22, "Retries").
"""

from __future__ import annotations

import time
from collections.abc import Callable

from mlservice.observe import metrics

_SHARE = 0.1
_A_SECOND = 2.0
_MOST = 20.0


class RetryBudget:
    """Retries that may be made just now; ``of`` names it in the metrics."""

    def __init__(self, of: str, clock: Callable[[], float] = time.monotonic) -> None:
        """Begin with all that can be saved up."""
        self._refused = metrics.RETRIES_REFUSED.labels(of)
        self._clock = clock
        self._at = clock()
        self._left = _MOST

    def earn(self) -> None:
        """Note a call, of which a tenth is earned."""
        self._left = min(_MOST, self._left + _SHARE)

    def spend(self) -> bool:
        """Whether a retry may be made; it is taken off."""
        now = self._clock()
        self._left = min(_MOST, self._left + (now - self._at) * _A_SECOND)
        self._at = now
        if self._left < 1:
            self._refused.inc()
            return False
        self._left -= 1
        return True
