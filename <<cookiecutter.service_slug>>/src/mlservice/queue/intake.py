"""Reads from Kafka as a member of the group: a librdkafka consumer in a thread of its own.

The client blocks while it waits, and it tells of rebalances in the midst of that; its own asyncio
wrapper is not used, since what is given up in a rebalance must be settled before messages go on.
So one thread owns the client, and each ``turn`` is one visit to it: stop or go on reading some
partitions, note how far they are answered, read. librdkafka commits what was noted, once in a
while, in a rebalance and at the end, and tries again where Kafka is away.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol, TypeVar

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition
from confluent_kafka import Message as Read

from mlservice.errors import QueueError
from mlservice.queue.client import configured, log, refused
from mlservice.queue.message import Headers, Message
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


class Holder(Protocol):
    """Who answers what is read; called in the event loop."""

    async def hold(self, partitions: Sequence[int]) -> None:
        """Messages of these partitions come from now on."""

    async def give_up(self, partitions: Sequence[int]) -> Mapping[int, int]:
        """Finish or drop what was read of these partitions; gives how far they are answered."""

    async def lose(self, partitions: Sequence[int]) -> None:
        """Drop what was read of these partitions: others have it by now."""


class Intake:
    """The requests of the partitions that this process holds; belongs to one event loop."""

    def __init__(self, settings: QueueSettings, topic: str, group: str, holder: Holder) -> None:
        """Make the client; it connects in the background, and again whenever it must.

        Raises ``SettingsError`` for options that librdkafka refuses.
        """
        self._topic = topic
        self._holder = holder
        self._loop = asyncio.get_running_loop()
        self._thread = ThreadPoolExecutor(1, "kafka")
        self._paused: frozenset[int] = frozenset()
        self._batch: list[Message] = []
        fixed = {**_OFFSETS, "group.id": group, "on_commit": _committed}
        config = configured(settings, _DEFAULTS, fixed)
        if config.get("group.protocol") == "consumer":  # there the brokers choose
            del config["partition.assignment.strategy"]
        try:
            self._consumer = Consumer(config)
        except KafkaException as error:
            raise refused(error) from error
        self._consumer.subscribe(
            [topic],
            on_assign=self._assigned,
            on_revoke=self._revoked,
            on_lost=self._lost,
        )

    async def turn(
        self, most: int, stalled: frozenset[int], answered: Mapping[int, int]
    ) -> list[Message]:
        """Up to ``most`` messages, none of the ``stalled`` partitions; waits for a moment.

        ``answered`` are the offsets to commit. Raises ``QueueError`` where no going on is of use.
        """
        return await self._visit(lambda: self._turn(most, stalled, answered))

    async def close(self, answered: Mapping[int, int]) -> bool:
        """Commit and leave the group; says whether Kafka took it.

        Where it did not within some seconds the thread is left as it hangs: the client would wait
        as long as the group's session lasts.
        """
        closing = asyncio.ensure_future(self._visit(lambda: self._close(answered)))
        closed, _ = await asyncio.wait([closing], timeout=SHUTDOWN.queue_leave)
        return bool(closed)

    async def _visit(self, call: Callable[[], _T]) -> _T:
        return await self._loop.run_in_executor(self._thread, call)

    # From here on in the client's thread

    def _turn(
        self, most: int, stalled: frozenset[int], answered: Mapping[int, int]
    ) -> list[Message]:
        self._store(answered)
        self._consumer.pause(self._places(stalled - self._paused))
        self._consumer.resume(self._places(self._paused - stalled))
        self._paused = stalled
        self._batch = []
        wait = _POLL_SECONDS
        # One by one: a rebalance in between takes messages out of the batch.
        while len(self._batch) < max(1, most):
            read = self._consumer.poll(wait)
            if read is None:
                break
            wait = 0
            self._add(read)
        return self._batch

    def _close(self, answered: Mapping[int, int]) -> None:
        self._store(answered)
        self._consumer.close()

    def _add(self, read: Read) -> None:
        if error := read.error():
            if error.fatal():
                raise QueueError(f"Kafka: {error.str()}")
            log.error("topic %s cannot be read: %s; it is tried again", self._topic, error.str())
            return
        self._batch.append(_message(read))

    def _store(self, answered: Mapping[int, int]) -> None:
        try:
            self._consumer.store_offsets(offsets=self._places(answered))
        except KafkaException as error:  # they are somebody else's by now
            log.warning("the answers up to %s cannot be committed: %s", dict(answered), error)

    def _assigned(self, _: Consumer, places: list[TopicPartition]) -> None:
        log.info("partitions %s are read here from now on", _numbers(places))
        self._settle(self._holder.hold(_numbers(places)))

    def _revoked(self, _: Consumer, places: list[TopicPartition]) -> None:
        self._forget(places)
        answered = self._settle(self._holder.give_up(_numbers(places)))
        self._store(answered)
        log.info("partitions %s are not read here any more", _numbers(places))

    def _lost(self, _: Consumer, places: list[TopicPartition]) -> None:
        self._forget(places)
        self._settle(self._holder.lose(_numbers(places)))
        log.warning("partitions %s were taken away", _numbers(places))

    def _forget(self, places: Sequence[TopicPartition]) -> None:
        gone = set(_numbers(places))
        self._batch[:] = [message for message in self._batch if message.partition not in gone]
        self._paused -= gone

    def _settle(self, settling: Awaitable[_T]) -> _T:
        """Let the event loop do something, and wait until it is done."""

        async def settle() -> _T:
            return await settling

        return asyncio.run_coroutine_threadsafe(settle(), self._loop).result()

    def _places(self, offsets: Mapping[int, int] | frozenset[int]) -> list[TopicPartition]:
        if isinstance(offsets, Mapping):
            return [TopicPartition(self._topic, n, offset) for n, offset in offsets.items()]
        return [TopicPartition(self._topic, number) for number in offsets]


def _message(read: Read) -> Message:
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


def _headers(found: Any) -> Headers:
    """The client's type allows more than it ever gives: pairs of text and bytes, or None."""
    return tuple((name, value) for name, value in found or ())


def _numbers(places: Sequence[TopicPartition]) -> list[int]:
    return [place.partition for place in places]


def _committed(error: KafkaError | None, _: Sequence[TopicPartition]) -> None:
    if error is not None and error.code() != KafkaError._NO_OFFSET:
        log.warning("offsets were not committed: %s; they will be with the next ones", error.str())
