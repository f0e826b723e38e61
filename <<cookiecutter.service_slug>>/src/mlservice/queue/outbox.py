"""Writes to Kafka, and says when it is really there: a librdkafka producer, made idempotent.

The producer tries again by itself, without doubles and in order. What it gives up after minutes
(a topic that is missing, Kafka away for long) is put to it again: nothing but a record that no
broker would take, and a producer that cannot go on, ends the waiting.
"""

from __future__ import annotations

import asyncio
import threading
from contextlib import suppress

from confluent_kafka import KafkaError, KafkaException, Producer
from confluent_kafka import Message as Written

from mlservice.errors import QueueError
from mlservice.queue.client import configured, log, refused
from mlservice.queue.message import Record
from mlservice.settings import QueueSettings

_POLL_SECONDS = 0.1
_PAUSE_SECONDS = 1.0
# Java's way to choose a partition: what has one key comes together, whoever wrote it.
_DEFAULTS = {"linger.ms": 2, "partitioner": "murmur2_random"}


class Outbox:
    """Writes records; belongs to one event loop."""

    def __init__(self, settings: QueueSettings) -> None:
        """Make the client; raises ``SettingsError`` for options that librdkafka refuses."""
        self._loop = asyncio.get_running_loop()
        try:
            self._producer = Producer(configured(settings, _DEFAULTS, {"enable.idempotence": True}))
        except KafkaException as error:
            raise refused(error) from error
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._serve, name="outbox", daemon=True)
        self._thread.start()

    async def write(self, record: Record) -> None:
        """Write ``record``, or its lesser one, and wait until Kafka has it.

        Raises ``QueueError`` where the producer cannot go on.
        """
        while (error := await self._written(record)) is not None:
            if error.fatal() or error.code() == KafkaError._FATAL:
                raise QueueError(f"Kafka: {error.str()}")
            if error.code() == KafkaError.MSG_SIZE_TOO_LARGE:
                if record.lesser is None:
                    log.error("a record for %s is too large and left out", record.topic)
                    return
                record = record.lesser
                continue
            log.error("topic %s cannot be written: %s; tried again", record.topic, error.str())
            await asyncio.sleep(_PAUSE_SECONDS)

    def close(self) -> None:
        """Stop; what is not written by now is left out."""
        self._ending.set()
        self._thread.join()

    async def _written(self, record: Record) -> KafkaError | None:
        """Why it was not written; None where it was."""
        future: asyncio.Future[KafkaError | None] = self._loop.create_future()

        def report(error: KafkaError | None, _: Written) -> None:
            with suppress(RuntimeError):  # the loop is closed: the process ends
                self._loop.call_soon_threadsafe(_settle, future, error)

        try:
            self._producer.produce(
                record.topic,
                record.value,
                record.key,
                headers=list(record.headers),
                on_delivery=report,
            )
        except BufferError:
            return KafkaError(KafkaError._QUEUE_FULL)
        except KafkaException as error:
            found: KafkaError = error.args[0]
            return found
        return await future

    def _serve(self) -> None:
        while not self._ending.is_set():
            self._producer.poll(_POLL_SECONDS)


def _settle(future: asyncio.Future[KafkaError | None], error: KafkaError | None) -> None:
    if not future.done():
        future.set_result(error)
