"""Writes replies to Kafka and reports when they are stored.

librdkafka's idempotent producer retries by itself, in order and without duplicates. It gives up
after minutes, if a topic is missing or Kafka stays down. This module hands such a record to it
again. Only two things end the wait: a record that no broker accepts, and a fatal error.
"""

from __future__ import annotations

import asyncio
import threading
from contextlib import suppress

from confluent_kafka import KafkaError, KafkaException, Producer
from confluent_kafka import Message as Written

from mlservice.errors import QueueError
from mlservice.queue.client import client_options, log, options_error
from mlservice.queue.message import Record
from mlservice.settings import QueueSettings

_POLL_SECONDS = 0.1
_PAUSE_SECONDS = 1.0
# The default of Kafka's Java client: a key goes to the same partition, whichever client writes.
_DEFAULTS = {"linger.ms": 2, "partitioner": "murmur2_random"}


class ReplyProducer:
    """Writes records; belongs to one event loop."""

    def __init__(self, settings: QueueSettings) -> None:
        """Create the client; raises ``SettingsError`` if librdkafka refuses an option."""
        self._loop = asyncio.get_running_loop()
        try:
            self._producer = Producer(
                client_options(settings, _DEFAULTS, {"enable.idempotence": True})
            )
        except KafkaException as error:
            raise options_error(error) from error
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._poll, name="kafka-producer", daemon=True)
        self._thread.start()

    async def write(self, record: Record) -> None:
        """Write ``record`` and wait until Kafka has stored it.

        If it is too large, its ``smaller`` one is written. Raises ``QueueError`` on a fatal error.
        """
        while (error := await self._produce(record)) is not None:
            if error.fatal() or error.code() == KafkaError._FATAL:
                raise QueueError(f"Kafka: {error.str()}")
            if error.code() == KafkaError.MSG_SIZE_TOO_LARGE:
                if record.smaller is None:
                    log.error("a record for topic %s is too large and is dropped", record.topic)
                    return
                record = record.smaller
                continue
            log.error("topic %s cannot be written: %s; retrying", record.topic, error.str())
            await asyncio.sleep(_PAUSE_SECONDS)

    def close(self) -> None:
        """Stop; records that are not written yet are dropped."""
        self._closing.set()
        self._thread.join()

    async def _produce(self, record: Record) -> KafkaError | None:
        """Write once; returns the error, None if the record is stored."""
        future: asyncio.Future[KafkaError | None] = self._loop.create_future()

        def report(error: KafkaError | None, _: Written) -> None:
            with suppress(RuntimeError):  # the loop is closed: the process ends
                self._loop.call_soon_threadsafe(_set_unless_done, future, error)

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

    def _poll(self) -> None:
        while not self._closing.is_set():
            self._producer.poll(_POLL_SECONDS)


def _set_unless_done(future: asyncio.Future[KafkaError | None], error: KafkaError | None) -> None:
    if not future.done():
        future.set_result(error)
