"""The one table that maps errors to what happens to a message: an answer, a dead letter, a wait.

The status is the one that HTTP would have, since the answers' readers know those.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, NamedTuple

from mlservice import errors
from mlservice.errors import RequestError


class Outcome(NamedTuple):
    """What becomes of a message; ``kind`` is the label of the metric.

    "refused": the message can never be answered. "failed": the service could not answer it. Both
    also go to the dead-letter topic. "expired": only its time was over. "waits": it is tried again.
    """

    kind: Literal["refused", "failed", "expired", "waits"]
    status: int


OUTCOMES: Mapping[type[RequestError], Outcome] = {
    errors.NotJson: Outcome("refused", 400),
    errors.RepeatedKey: Outcome("refused", 400),
    errors.InvalidHeader: Outcome("refused", 400),
    errors.RequestTooLarge: Outcome("refused", 413),
    errors.BrokenContract: Outcome("refused", 422),
    errors.InvalidReward: Outcome("refused", 422),
    errors.PredictionFailed: Outcome("failed", 500),
    errors.InvalidResponse: Outcome("failed", 500),
    errors.ResponseTooLarge: Outcome("failed", 500),
    errors.InternalError: Outcome("failed", 500),
    errors.DeadlineExceeded: Outcome("expired", 504),
    errors.Unavailable: Outcome("waits", 503),
}


def outcome_of(error: RequestError) -> Outcome:
    """The row of the table for ``error``, or for the nearest of its base classes."""
    return next(OUTCOMES[kind] for kind in type(error).__mro__ if kind in OUTCOMES)
