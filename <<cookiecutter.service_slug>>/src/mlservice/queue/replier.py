"""Turns a message into the records to write for it, also while workers fail.

A queue has more time than HTTP. If no worker can predict, a message waits until its own deadline,
so an outage loses nothing. Two kinds of messages must not wait forever. A message that can never be
answered goes to the dead-letter topic, besides its answer. A message with which a worker died or
hung is a suspect, because it may be the cause. Suspects are tried one at a time, so that they harm
no others, and fail after a few tries.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Protocol

from mlservice.errors import (
    DeadlineExceeded,
    InternalError,
    PredictionFailed,
    RequestError,
    RequestTooLarge,
    Unavailable,
    WorkerBroke,
)
from mlservice.observe import metrics
from mlservice.prediction.context import RequestContext
from mlservice.prediction.path import PredictPath
from mlservice.prediction.pending import Prediction
from mlservice.queue.message import (
    Message,
    Record,
    answer_record,
    dead_letter_record,
    refusal_record,
)
from mlservice.queue.outcomes import outcome_of
from mlservice.queue.topics import Topics

_MAX_LOSSES = 3
_FIRST_PAUSE = 0.1
_MAX_PAUSE = 2.0
log = logging.getLogger("mlservice.queue")


@dataclass(frozen=True)
class Limits:
    """Seconds that a message may take in all (0: forever) and in one try, and its size."""

    message_seconds: float
    try_seconds: float
    max_bytes: int


class WaitListener(Protocol):
    """Is called when a message begins or ends to wait for a worker."""

    def __call__(self, message: Message, *, waits: bool) -> None:
        """The message ``waits`` now, or no longer. To forbid the wait, cancel its task."""


@dataclass(frozen=True)
class Reply:
    """The outcome of a message, and the records to write before it counts as answered."""

    outcome: str
    records: tuple[Record, ...]


class Replier:
    """Answers messages; belongs to one event loop."""

    def __init__(
        self, path: PredictPath, topics: Topics, limits: Limits, listener: WaitListener
    ) -> None:
        """Predict by ``path``, and report waits to ``listener``."""
        self._path = path
        self._topics = topics
        self._limits = limits
        self._listener = listener
        self._one_suspect = asyncio.Lock()

    async def reply(self, message: Message) -> Reply:
        """Return what to write for a message; raises only if it is cancelled."""
        try:
            prediction = await self._predict(message, message.expires(self._limits.message_seconds))
        except RequestError as error:
            return self._refuse(message, error)
        except Exception:
            log.exception("message %s failed", message.request_id)
            return self._refuse(message, InternalError("see the log"))
        return Reply("answered", (answer_record(message, prediction, self._topics.answers),))

    def _refuse(self, message: Message, error: RequestError) -> Reply:
        answer = refusal_record(message, error, self._topics.answers)
        kind = outcome_of(error).kind
        if kind == "expired":
            return Reply(kind, (answer,))
        return Reply(kind, (answer, dead_letter_record(message, error, self._topics.dead_letters)))

    async def _predict(self, message: Message, expires: float) -> Prediction:
        """Predict, with as many tries as the time allows; never raises an error that "waits"."""
        if message.value and len(message.value) > self._limits.max_bytes:
            raise RequestTooLarge(f"a request may have {self._limits.max_bytes} bytes")
        losses = 0
        with _Backoff(message, self._listener) as backoff:
            while True:
                try:
                    async with self._one_suspect if losses else nullcontext():
                        return await self._try(message, expires)
                except (WorkerBroke, _TooSlow) as error:
                    losses += 1
                    if losses == _MAX_LOSSES:
                        raise _too_many_losses(losses) from error
                    log.warning("message %s: %s", message.request_id, error)
                except Unavailable:
                    pass
                await backoff.pause(expires)

    async def _try(self, message: Message, expires: float) -> Prediction:
        left = expires - time.time()
        if left <= 0:
            raise DeadlineExceeded("the message's time ran out")
        timeout = min(left, self._limits.try_seconds)
        context = RequestContext.begin(message.request_id, message.user, timeout)
        try:
            return await self._path.predict(message.value or b"", context)
        except DeadlineExceeded as error:
            if left > self._limits.try_seconds:
                raise _TooSlow(f"no answer within {self._limits.try_seconds:g} s") from error
            raise


class _TooSlow(Exception):  # not an error: the message has time for another try
    """One try took too long."""


class _Backoff:
    """The pauses between the tries of one message; each is twice as long as the last."""

    def __init__(self, message: Message, listener: WaitListener) -> None:
        self._message = message
        self._listener = listener
        self._pause = 0.0

    def __enter__(self) -> _Backoff:
        return self

    def __exit__(self, *_: object) -> None:
        if self._pause:
            self._listener(self._message, waits=False)

    async def pause(self, expires: float) -> None:
        """Wait, but no longer than until ``expires``."""
        if not self._pause:
            self._listener(self._message, waits=True)
        metrics.QUEUE_WAITS.inc()
        self._pause = min(2 * self._pause or _FIRST_PAUSE, _MAX_PAUSE)
        left = max(0.0, expires - time.time())
        await asyncio.sleep(min(left, self._pause * random.uniform(0.5, 1)))  # noqa: S311  # jitter


def _too_many_losses(losses: int) -> PredictionFailed:
    return PredictionFailed(
        f"{losses} times a worker died, or gave no answer in time, with this message"
    )
