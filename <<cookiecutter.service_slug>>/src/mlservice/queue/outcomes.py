"""The one table that maps errors to what happens to a message: an answer, a dead letter or a wait.

The status is the one that HTTP would have, because readers of the answers know those.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, NamedTuple

from mlservice import errors
from mlservice.errors import RequestError


class MessageOutcome(NamedTuple):
    """What happens to a message; ``kind`` is the label of the metric.

    "refused": the message can never be answered. "failed": the service could not answer it. Both
    also go to the dead-letter topic. "expired": its deadline passed. "waits": it is tried again.
    """

    kind: Literal["refused", "failed", "expired", "waits"]
    status: int


OUTCOMES: Mapping[type[RequestError], MessageOutcome] = {
    errors.NotJson: MessageOutcome("refused", 400),
    errors.RepeatedKey: MessageOutcome("refused", 400),
    errors.InvalidHeader: MessageOutcome("refused", 400),
    errors.RequestTooLarge: MessageOutcome("refused", 413),
    errors.BrokenContract: MessageOutcome("refused", 422),
    errors.InvalidReward: MessageOutcome("refused", 422),
    errors.PredictionFailed: MessageOutcome("failed", 500),
    errors.InvalidResponse: MessageOutcome("failed", 500),
    errors.ResponseTooLarge: MessageOutcome("failed", 500),
    errors.InternalError: MessageOutcome("failed", 500),
    errors.DeadlineExceeded: MessageOutcome("expired", 504),
    errors.Unavailable: MessageOutcome("waits", 503),
}


def outcome_of(error: RequestError) -> MessageOutcome:
    """The row of the table for ``error``, or for the nearest of its base classes."""
    return next(OUTCOMES[kind] for kind in type(error).__mro__ if kind in OUTCOMES)
