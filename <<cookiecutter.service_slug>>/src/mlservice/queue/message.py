"""Messages as values: requests, and the answers and dead letters that follow from them.

The headers are those of HTTP. A message without a usable request id is named by its place in the
topic. No other message has that place, and it stays the same if the message is read again, so a
reader of the answers can drop duplicates by it.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

from mlservice.errors import RequestError, ResponseTooLarge
from mlservice.prediction import request_headers
from mlservice.prediction.pending import Prediction
from mlservice.prediction.problem_details import problem_details
from mlservice.queue.outcomes import outcome_of

_MAX_ID = 64
_MAX_REASON = 500
Headers = tuple[tuple[str, bytes | None], ...]


@dataclass(frozen=True, slots=True)
class Message:
    """A request as it lies in its partition; ``written`` is in seconds, of the system's clock."""

    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    headers: Headers
    written: float

    @property
    def place(self) -> tuple[int, int]:
        """Partition and offset."""
        return self.partition, self.offset

    @property
    def request_id(self) -> str:
        """``x-request-id`` where it can be used, else the message's place."""
        return request_headers.usable_id(self._named) or self._place

    @property
    def user(self) -> str | None:
        """``x-user-id``; raises ``InvalidHeader`` for what is no id."""
        return request_headers.user(self._named)

    def expires(self, default: float) -> float:
        """When its time is over, by the system's clock; ``default`` (0: never) is in seconds.

        The time counts from when the message was written. Raises ``InvalidHeader`` for a
        timeout that cannot be used.
        """
        return self.written + request_headers.timeout(self._named, default or math.inf)

    @property
    def _named(self) -> Mapping[bytes, bytes]:
        return {name.lower().encode(): value or b"" for name, value in self.headers}

    @property
    def _place(self) -> str:
        place = f"-{self.partition}-{self.offset}"
        if len(self.topic) + len(place) <= _MAX_ID:
            return self.topic + place
        return hashlib.sha256(self.topic.encode()).hexdigest()[:24] + place


@dataclass(frozen=True, slots=True)
class Record:
    """A message to be written; ``lesser`` takes its place where it is too large for the brokers."""

    topic: str
    key: bytes | None
    value: bytes | None
    headers: Headers
    lesser: Record | None = None


def answer_to(message: Message, prediction: Prediction, topic: str) -> Record:
    """The prediction."""
    found = {"x-request-id": message.request_id, "status": "200"}
    if prediction.fallbacks:
        found["x-fallback"] = ", ".join(prediction.fallbacks)
    error = ResponseTooLarge("the answer is larger than a message may be")
    lesser = refusal_of(message, error, topic)
    return Record(topic, message.key, prediction.body, _headers(found), lesser)


def refusal_of(message: Message, error: RequestError, topic: str) -> Record:
    """Problem details, as HTTP gives them."""
    status = outcome_of(error).status
    found = {"x-request-id": message.request_id, "status": status}
    body = problem_details(error, status, message.request_id)
    return Record(topic, message.key, body, _headers(found))


def dead_letter_of(message: Message, error: RequestError, topic: str) -> Record:
    """The message as it was, with headers that give the reason and the source position."""
    faults = "; ".join(f"{fault.field}: {fault.rule}" for fault in error.faults)
    reason = f"{error.detail}: {faults}" if faults else error.detail
    found = {
        "x-dead-letter-reason": reason[:_MAX_REASON],
        "x-dead-letter-code": error.code,
        "x-dead-letter-topic": message.topic,
        "x-dead-letter-partition": message.partition,
        "x-dead-letter-offset": message.offset,
    }
    headers = (*message.headers, *_headers(found))
    record = Record(topic, message.key, message.value, headers)
    emptied = (*headers, ("x-dead-letter-omitted", b"value"))
    return replace(record, lesser=replace(record, value=None, headers=emptied))


def _headers(found: Mapping[str, object]) -> Headers:
    return tuple(
        (name, str(value).encode(errors="backslashreplace")) for name, value in found.items()
    )
