"""Which messages were read, which of them may be worked on, and how far a partition is answered.

Kafka commits one offset for a partition: everything below it counts as done. Messages of different
keys are answered at the same time and out of turn, so what may be committed is the first one that
is not answered yet, however many behind it are. That, the order within a key and the bound on what
is in flight are all kept here, without Kafka and without a clock, where laws can be tried on them.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field

from mlservice.queue.message import Message

Lane = bytes | int
"""The messages of one key; one without a key has a lane of its own, named by its offset."""


@dataclass(slots=True)
class _Partition:
    end: int = -1
    """Behind the last message that was read; -1 before the first."""
    told: int = -1
    """The last offset that ``due`` gave."""
    begun: int = -1
    """The highest offset that was ever worked on."""
    leaving: bool = False
    waiting: set[int] = field(default_factory=set)
    open: dict[int, None] = field(default_factory=dict)
    lanes: dict[Lane, deque[Message]] = field(default_factory=dict)

    @property
    def answered(self) -> int:
        """The offset below which every message is answered."""
        return next(iter(self.open), self.end)


class Ledger:
    """The messages in flight, of the partitions that this process holds."""

    def __init__(self, most: int) -> None:
        """Allow ``most`` messages at a time."""
        self._most = most
        self._partitions: dict[int, _Partition] = {}
        self._crowded = False

    @property
    def in_flight(self) -> int:
        """Messages that were read and are not answered."""
        return sum(len(partition.open) for partition in self._partitions.values())

    @property
    def room(self) -> int:
        """How many more messages may be read."""
        return max(0, self._most - self.in_flight)

    @property
    def held(self) -> frozenset[int]:
        """The partitions that are held."""
        return frozenset(self._partitions)

    def hold(self, partitions: Iterable[int]) -> None:
        """Hold these partitions too; nothing was read of them yet."""
        for number in partitions:
            self._partitions[number] = _Partition()

    def leave(self, partitions: Iterable[int]) -> list[Message]:
        """Let work end on these partitions; gives what only waits for a worker.

        Only what lies below something that was begun is still worked on: left out, it would keep
        what is answered behind it from being committed.
        """
        found = []
        for number in partitions:
            partition = self._partitions[number]
            partition.leaving = True
            heads = [lane[0] for lane in partition.lanes.values()]
            found += [message for message in heads if message.offset in partition.waiting]
        return found

    def release(self, partitions: Collection[int]) -> dict[int, int]:
        """Forget these partitions; gives what ``due`` would have given of them."""
        due = self._due(partitions)
        for number in partitions:
            del self._partitions[number]
        return due

    def take(self, message: Message) -> bool:
        """Note a message that was read; says whether it may be worked on at once.

        If not, ``settle`` gives it when the one before it, of the same key, is answered. Messages
        of a partition come in the order of their offsets.
        """
        partition = self._partitions[message.partition]
        partition.open[message.offset] = None
        partition.end = message.offset + 1
        lane = partition.lanes.setdefault(_lane(message), deque())
        lane.append(message)
        if len(lane) > 1:
            return False
        partition.begun = message.offset
        return True

    def settle(self, message: Message) -> Message | None:
        """Note that a message is answered; gives the next one of its key, to be worked on."""
        partition = self._partitions[message.partition]
        del partition.open[message.offset]
        lane = partition.lanes[_lane(message)]
        lane.popleft()
        if not lane:
            del partition.lanes[_lane(message)]
            return None
        if partition.leaving and lane[0].offset > partition.begun:
            return None
        partition.begun = max(partition.begun, lane[0].offset)
        return lane[0]

    def wait(self, message: Message, *, waits: bool) -> bool:
        """Note whether a message waits for a worker; says whether it may."""
        partition = self._partitions[message.partition]
        if waits:
            partition.waiting.add(message.offset)
        else:
            partition.waiting.discard(message.offset)
        return not partition.leaving

    def due(self) -> dict[int, int]:
        """The offsets that may be committed, of the partitions where they are new."""
        return self._due(self._partitions)

    def stalled(self) -> frozenset[int]:
        """The partitions of which nothing shall be read just now.

        All of them where there was no room, until half of it is free again; otherwise those that
        wait for a worker.
        """
        self._crowded = self.room == 0 or (self._crowded and self.room < self._most / 2)
        if self._crowded:
            return self.held
        return frozenset(n for n, partition in self._partitions.items() if partition.waiting)

    def _due(self, numbers: Iterable[int]) -> dict[int, int]:
        found = {}
        for number in numbers:
            partition = self._partitions[number]
            if partition.answered > partition.told:
                found[number] = partition.told = partition.answered
        return found


def _lane(message: Message) -> Lane:
    return message.offset if message.key is None else message.key
