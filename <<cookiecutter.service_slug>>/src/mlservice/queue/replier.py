"""From a message to the records that must be written for it, whatever happens to the workers.

A queue has time that HTTP does not have. So a message that finds no worker waits as long as its own
time allows, and an outage loses nothing. Two kinds of messages must not wait without end. Those
that can never be answered also go to the dead-letter topic. Those that may be the cause of the
outage, because a worker died or hung with them, are suspects: they are tried one at a time, so that
they harm no others, and are given up after a few tries.
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
from mlservice.queue.message import Message, Record, answer_to, dead_letter_of, refusal_of
from mlservice.queue.outcomes import outcome_of
from mlservice.queue.topics import Topics

_MAX_LOSSES = 3
_FIRST_PAUSE = 0.1
_MAX_PAUSE = 2.0
log = logging.getLogger("mlservice.queue")


@dataclass(frozen=True)
class Limits:
    """Seconds that a message may take in all (0: for ever) and in one try, and its bytes."""

    message_seconds: float
    try_seconds: float
    size: int


class Waiting(Protocol):
    """Who must know when a message waits for a worker."""

    def __call__(self, message: Message, *, waits: bool) -> None:
        """It waits, or waits no longer; a wait that must not be can be ended by a cancel."""


@dataclass(frozen=True)
class Reply:
    """What came of a message, and what must be written before it is done."""

    outcome: str
    records: tuple[Record, ...]


class Replier:
    """Answers messages; belongs to one event loop."""

    def __init__(self, path: PredictPath, topics: Topics, limits: Limits, waiting: Waiting) -> None:
        """Answer by ``path``, and report to ``waiting``."""
        self._path = path
        self._topics = topics
        self._limits = limits
        self._waiting = waiting
        self._one_suspect = asyncio.Lock()

    async def reply(self, message: Message) -> Reply:
        """What must be written for a message; raises nothing unless it is cancelled."""
        try:
            prediction = await self._predict(message, message.expires(self._limits.message_seconds))
        except RequestError as error:
            return self._refused(message, error)
        except Exception:
            log.exception("message %s failed", message.request_id)
            return self._refused(message, InternalError("see the log"))
        return Reply("answered", (answer_to(message, prediction, self._topics.answers),))

    def _refused(self, message: Message, error: RequestError) -> Reply:
        answer = refusal_of(message, error, self._topics.answers)
        kind = outcome_of(error).kind
        if kind == "expired":
            return Reply(kind, (answer,))
        return Reply(kind, (answer, dead_letter_of(message, error, self._topics.dead_letters)))

    async def _predict(self, message: Message, expires: float) -> Prediction:
        """The prediction, however long it takes; never raises an error that "waits"."""
        if message.value and len(message.value) > self._limits.size:
            raise RequestTooLarge(f"a request may have {self._limits.size} bytes")
        losses = 0
        with _Wait(message, self._waiting) as wait:
            while True:
                try:
                    async with self._one_suspect if losses else nullcontext():
                        return await self._try(message, expires)
                except (WorkerBroke, _TooSlow) as error:
                    losses += 1
                    if losses == _MAX_LOSSES:
                        raise _given_up(losses) from error
                    log.warning("message %s: %s", message.request_id, error)
                except Unavailable:
                    pass
                await wait.pause(expires)

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


class _TooSlow(Exception):  # no error: the message has more time than one try
    """One try took too long."""


class _Wait:
    """The pauses of one message, each twice as long as the one before."""

    def __init__(self, message: Message, waiting: Waiting) -> None:
        self._message = message
        self._waiting = waiting
        self._pause = 0.0

    def __enter__(self) -> _Wait:
        return self

    def __exit__(self, *_: object) -> None:
        if self._pause:
            self._waiting(self._message, waits=False)

    async def pause(self, expires: float) -> None:
        """Wait, but not much longer than until ``expires``."""
        if not self._pause:
            self._waiting(self._message, waits=True)
        metrics.QUEUE_WAITS.inc()
        self._pause = min(2 * self._pause or _FIRST_PAUSE, _MAX_PAUSE)
        left = max(0.0, expires - time.time())
        await asyncio.sleep(min(left, self._pause * random.uniform(0.5, 1)))  # noqa: S311  # jitter


def _given_up(losses: int) -> PredictionFailed:
    return PredictionFailed(
        f"{losses} times a worker died, or gave no answer in time, with this message"
    )
