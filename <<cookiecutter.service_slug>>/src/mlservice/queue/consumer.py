"""Reads requests from Kafka as a member of the consumer group, in a thread of its own.

librdkafka's consumer blocks while it waits and calls back on a rebalance within that call. Work on
a revoked partition must end before the callback returns, and confluent_kafka's asyncio wrapper does
not allow that. So one thread owns the client. Each ``poll`` runs once in it: pause or resume
partitions, store the answered offsets, read. librdkafka commits the stored offsets at an interval,
in a rebalance and on close, and retries if Kafka is down.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol, TypeVar

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition
from confluent_kafka import Message as KafkaMessage

from mlservice.errors import QueueError
from mlservice.queue.client import client_options, log, options_error
from mlservice.queue.message import Message, MessageHeaders
from mlservice.settings import QueueSettings
from mlservice.shutdown import SHUTDOWN

_POLL_SECONDS = 0.1
_OFFSETS = {
    "enable.auto.commit": True,
    "enable.auto.offset.store": False,
}
_DEFAULTS = {
    "auto.commit.interval.ms": 1000,
    "auto.offset.reset": "earliest",
    "partition.assignment.strategy": "cooperative-sticky",
}
_T = TypeVar("_T")


class RebalanceListener(Protocol):
    """Hears of each rebalance; its methods run in the event loop."""

    async def on_assigned(self, partitions: Sequence[int]) -> None:
        """Messages of these partitions will follow."""

    async def on_revoked(self, partitions: Sequence[int]) -> Mapping[int, int]:
        """Finish or drop the messages of these partitions; returns the offsets to commit."""

    async def on_lost(self, partitions: Sequence[int]) -> None:
        """Drop the messages of these partitions: other members already have them."""


class RequestConsumer:
    """Reads the partitions that are assigned to this process; belongs to one event loop."""

    def __init__(
        self, settings: QueueSettings, topic: str, group: str, listener: RebalanceListener
    ) -> None:
        """Create the client, which connects and reconnects in the background.

        Raises ``SettingsError`` if librdkafka refuses an option.
        """
        self._topic = topic
        self._listener = listener
        self._loop = asyncio.get_running_loop()
        self._thread = ThreadPoolExecutor(1, "kafka")
        self._paused: frozenset[int] = frozenset()
        self._batch: list[Message] = []
        fixed = {**_OFFSETS, "group.id": group, "on_commit": _log_commit_error}
        config = client_options(settings, _DEFAULTS, fixed)
        if config.get("group.protocol") == "consumer":  # the brokers assign then
            del config["partition.assignment.strategy"]
        try:
            self._consumer = Consumer(config)
        except KafkaException as error:
            raise options_error(error) from error
        self._consumer.subscribe(
            [topic],
            on_assign=self._on_assign,
            on_revoke=self._on_revoke,
            on_lost=self._on_lost,
        )

    async def poll(
        self, max_messages: int, stalled: frozenset[int], answered: Mapping[int, int]
    ) -> list[Message]:
        """Return up to ``max_messages``, none from ``stalled`` partitions; waits 0.1 s at most.

        ``answered`` are the offsets to commit. Raises ``QueueError`` if the error is fatal.
        """
        return await self._in_thread(lambda: self._poll(max_messages, stalled, answered))

    async def close(self, answered: Mapping[int, int]) -> bool:
        """Commit and leave the group; returns whether Kafka confirmed it.

        If Kafka does not confirm it within some seconds, the thread keeps hanging: the client would
        wait until the group's session times out.
        """
        closing = asyncio.ensure_future(self._in_thread(lambda: self._close(answered)))
        closed, _ = await asyncio.wait([closing], timeout=SHUTDOWN.queue_leave)
        return bool(closed)

    async def _in_thread(self, call: Callable[[], _T]) -> _T:
        return await self._loop.run_in_executor(self._thread, call)

    # The methods below run in the client's thread.

    def _poll(
        self, max_messages: int, stalled: frozenset[int], answered: Mapping[int, int]
    ) -> list[Message]:
        self._store_offsets(answered)
        self._consumer.pause(self._topic_partitions(stalled - self._paused))
        self._consumer.resume(self._topic_partitions(self._paused - stalled))
        self._paused = stalled
        self._batch = []
        wait = _POLL_SECONDS
        # One by one: a rebalance between two polls removes messages from the batch.
        while len(self._batch) < max(1, max_messages):
            read = self._consumer.poll(wait)
            if read is None:
                break
            wait = 0
            self._add(read)
        return self._batch

    def _close(self, answered: Mapping[int, int]) -> None:
        self._store_offsets(answered)
        self._consumer.close()

    def _add(self, read: KafkaMessage) -> None:
        if error := read.error():
            if error.fatal():
                raise QueueError(f"Kafka: {error.str()}")
            log.error("topic %s cannot be read: %s; retrying", self._topic, error.str())
            return
        self._batch.append(_message(read))

    def _store_offsets(self, answered: Mapping[int, int]) -> None:
        try:
            self._consumer.store_offsets(offsets=self._topic_partitions(answered))
        except KafkaException as error:  # another member has the partitions already
            log.warning(
                "offsets %s of answered messages cannot be committed: %s", dict(answered), error
            )

    def _on_assign(self, _: Consumer, partitions: list[TopicPartition]) -> None:
        log.info("partitions %s are assigned", _numbers(partitions))
        self._run_in_loop(self._listener.on_assigned(_numbers(partitions)))

    def _on_revoke(self, _: Consumer, partitions: list[TopicPartition]) -> None:
        self._drop(partitions)
        answered = self._run_in_loop(self._listener.on_revoked(_numbers(partitions)))
        self._store_offsets(answered)
        log.info("partitions %s are revoked", _numbers(partitions))

    def _on_lost(self, _: Consumer, partitions: list[TopicPartition]) -> None:
        self._drop(partitions)
        self._run_in_loop(self._listener.on_lost(_numbers(partitions)))
        log.warning("partitions %s are lost: other members have them", _numbers(partitions))

    def _drop(self, partitions: Sequence[TopicPartition]) -> None:
        gone = set(_numbers(partitions))
        self._batch[:] = [message for message in self._batch if message.partition not in gone]
        self._paused -= gone

    def _run_in_loop(self, work: Awaitable[_T]) -> _T:
        """Run ``work`` in the event loop and wait for its result."""

        async def wait_for_it() -> _T:
            return await work

        return asyncio.run_coroutine_threadsafe(wait_for_it(), self._loop).result()

    def _topic_partitions(
        self, offsets: Mapping[int, int] | frozenset[int]
    ) -> list[TopicPartition]:
        if isinstance(offsets, Mapping):
            return [TopicPartition(self._topic, n, offset) for n, offset in offsets.items()]
        return [TopicPartition(self._topic, number) for number in offsets]


def _message(read: KafkaMessage) -> Message:
    kind, milliseconds = read.timestamp()
    return Message(
        read.topic() or "",
        read.partition() or 0,
        read.offset() or 0,
        read.key(),
        read.value(),
        _headers(read.headers()),
        milliseconds / 1000 if kind else time.time(),
    )


def _headers(found: Any) -> MessageHeaders:
    """confluent_kafka's type is too wide: it only returns pairs of text and bytes, or None."""
    return tuple((name, value) for name, value in found or ())


def _numbers(partitions: Sequence[TopicPartition]) -> list[int]:
    return [one.partition for one in partitions]


def _log_commit_error(error: KafkaError | None, _: Sequence[TopicPartition]) -> None:
    if error is not None and error.code() != KafkaError._NO_OFFSET:
        log.warning("offsets were not committed: %s; the next commit includes them", error.str())
