"""The messages of the queue as plain values: requests, answers and dead letters.

They have the same headers as HTTP. A message without a usable request id gets one made from its
topic, partition and offset. This id is unique and stays the same if the message is read again, so
readers of the answers can drop duplicates by it.
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
MessageHeaders = tuple[tuple[str, bytes | None], ...]


@dataclass(frozen=True, slots=True)
class Message:
    """A request from Kafka; ``written`` is its timestamp, in seconds of the system's clock."""

    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    headers: MessageHeaders
    written: float

    @property
    def place(self) -> tuple[int, int]:
        """Partition and offset."""
        return self.partition, self.offset

    @property
    def request_id(self) -> str:
        """``x-request-id`` if it can be used, else an id made from the message's place."""
        return request_headers.usable_id(self._lower_headers) or self._id_from_place

    @property
    def user(self) -> str | None:
        """``x-user-id``; raises ``InvalidHeader`` if it cannot be used."""
        return request_headers.user(self._lower_headers)

    def expires(self, default: float) -> float:
        """Its deadline by the system's clock; without a timeout, ``default`` seconds (0: never).

        The time counts from the message's timestamp. Raises ``InvalidHeader`` if the timeout cannot
        be used.
        """
        return self.written + request_headers.timeout(self._lower_headers, default or math.inf)

    @property
    def _lower_headers(self) -> Mapping[bytes, bytes]:
        return {name.lower().encode(): value or b"" for name, value in self.headers}

    @property
    def _id_from_place(self) -> str:
        place = f"-{self.partition}-{self.offset}"
        if len(self.topic) + len(place) <= _MAX_ID:
            return self.topic + place
        return hashlib.sha256(self.topic.encode()).hexdigest()[:24] + place


@dataclass(frozen=True, slots=True)
class Record:
    """A message to write; ``smaller`` replaces it if it is too large for the brokers."""

    topic: str
    key: bytes | None
    value: bytes | None
    headers: MessageHeaders
    smaller: Record | None = None


def answer_record(message: Message, prediction: Prediction, topic: str) -> Record:
    """The record with the prediction."""
    found = {"x-request-id": message.request_id, "status": "200"}
    if prediction.fallbacks:
        found["x-fallback"] = ", ".join(prediction.fallbacks)
    error = ResponseTooLarge("the answer is larger than a message may be")
    smaller = refusal_record(message, error, topic)
    return Record(topic, message.key, prediction.body, _headers(found), smaller)


def refusal_record(message: Message, error: RequestError, topic: str) -> Record:
    """The record with the problem details of ``error``, as over HTTP."""
    status = outcome_of(error).status
    found = {"x-request-id": message.request_id, "status": status}
    body = problem_details(error, status, message.request_id)
    return Record(topic, message.key, body, _headers(found))


def dead_letter_record(message: Message, error: RequestError, topic: str) -> Record:
    """The original message, with headers for the reason and the source position."""
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
    return replace(record, smaller=replace(record, value=None, headers=emptied))


def _headers(found: Mapping[str, object]) -> MessageHeaders:
    return tuple(
        (name, str(value).encode(errors="backslashreplace")) for name, value in found.items()
    )
