"""Decides which messages may start and which offsets may be committed.

Kafka stores one offset for each partition, and every message below it counts as answered. Messages
of different keys finish out of order. So only the offset of the first unanswered message may be
committed, however many messages after it are answered. The ledger also keeps the order within a key
and limits the messages in flight. It uses neither Kafka nor a clock, so tests can check its laws.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field

from mlservice.queue.message import Message

QueueKey = bytes | int
"""A message's key. A message without one gets a queue of its own, so its offset stands for it."""


@dataclass(slots=True)
class _Partition:
    end: int = -1
    """One more than the last offset that was read; -1 before the first."""
    returned: int = -1
    """The last offset that ``committable`` returned."""
    highest_started: int = -1
    """The highest offset that was ever started."""
    revoking: bool = False
    waiting: set[int] = field(default_factory=set)
    open: dict[int, None] = field(default_factory=dict)
    queues: dict[QueueKey, deque[Message]] = field(default_factory=dict)

    @property
    def answered(self) -> int:
        """The offset below which every message is answered."""
        return next(iter(self.open), self.end)


class Ledger:
    """The messages in flight, of the partitions that are assigned to this process."""

    def __init__(self, max_in_flight: int) -> None:
        """Allow ``max_in_flight`` messages at a time."""
        self._max_in_flight = max_in_flight
        self._partitions: dict[int, _Partition] = {}
        self._full = False

    @property
    def in_flight(self) -> int:
        """The number of messages that were read and are not answered."""
        return sum(len(partition.open) for partition in self._partitions.values())

    @property
    def room(self) -> int:
        """How many more messages may be read."""
        return max(0, self._max_in_flight - self.in_flight)

    @property
    def assigned(self) -> frozenset[int]:
        """The partitions that are assigned."""
        return frozenset(self._partitions)

    def assign(self, partitions: Iterable[int]) -> None:
        """Add these partitions; none of their messages was read yet."""
        for number in partitions:
            self._partitions[number] = _Partition()

    def begin_revoke(self, partitions: Iterable[int]) -> list[Message]:
        """Start no new messages of these partitions; returns those that wait for a worker.

        A message below one that was started is still started. Without its answer, the answered
        messages after it could not be committed.
        """
        found = []
        for number in partitions:
            partition = self._partitions[number]
            partition.revoking = True
            heads = [queue[0] for queue in partition.queues.values()]
            found += [message for message in heads if message.offset in partition.waiting]
        return found

    def release(self, partitions: Collection[int]) -> dict[int, int]:
        """Forget these partitions; returns their committable offsets."""
        committable = self._committable(partitions)
        for number in partitions:
            del self._partitions[number]
        return committable

    def add(self, message: Message) -> bool:
        """Add a message that was read; returns whether it may start now.

        If not, ``complete`` returns it once the message before it, of the same key, is answered.
        Messages of a partition must be added in the order of their offsets.
        """
        partition = self._partitions[message.partition]
        partition.open[message.offset] = None
        partition.end = message.offset + 1
        queue = partition.queues.setdefault(_queue_key(message), deque())
        queue.append(message)
        if len(queue) > 1:
            return False
        partition.highest_started = message.offset
        return True

    def complete(self, message: Message) -> Message | None:
        """Mark a message as answered; returns the next one of its key, which may start now."""
        partition = self._partitions[message.partition]
        del partition.open[message.offset]
        queue = partition.queues[_queue_key(message)]
        queue.popleft()
        if not queue:
            del partition.queues[_queue_key(message)]
            return None
        if partition.revoking and queue[0].offset > partition.highest_started:
            return None
        partition.highest_started = max(partition.highest_started, queue[0].offset)
        return queue[0]

    def set_waiting(self, message: Message, *, waits: bool) -> bool:
        """Record whether a message waits for a worker; returns whether it may wait."""
        partition = self._partitions[message.partition]
        if waits:
            partition.waiting.add(message.offset)
        else:
            partition.waiting.discard(message.offset)
        return not partition.revoking

    def committable(self) -> dict[int, int]:
        """The offsets that may be committed, of the partitions whose offset has changed."""
        return self._committable(self._partitions)

    def stalled(self) -> frozenset[int]:
        """The partitions that must not be read now.

        These are all partitions if there is no room, until half of it is free again. Otherwise they
        are the partitions with a message that waits for a worker.
        """
        self._full = self.room == 0 or (self._full and self.room < self._max_in_flight / 2)
        if self._full:
            return self.assigned
        return frozenset(n for n, partition in self._partitions.items() if partition.waiting)

    def _committable(self, numbers: Iterable[int]) -> dict[int, int]:
        found = {}
        for number in numbers:
            partition = self._partitions[number]
            if partition.answered > partition.returned:
                found[number] = partition.returned = partition.answered
        return found


def _queue_key(message: Message) -> QueueKey:
    return message.offset if message.key is None else message.key
