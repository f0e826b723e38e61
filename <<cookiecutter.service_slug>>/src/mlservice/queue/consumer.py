"""Joins reading, answering and writing: what is read is answered, written, and only then done.

Each message is worked on by a task of its own, one at a time for each key. The ledger says which
may start and how far a partition is answered; this module moves the messages.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress

from mlservice.observe import metrics
from mlservice.prediction.path import PredictPath
from mlservice.queue.intake import Intake
from mlservice.queue.ledger import Ledger
from mlservice.queue.message import Message
from mlservice.queue.outbox import Outbox
from mlservice.queue.replier import Limits, Replier
from mlservice.queue.topics import Topics
from mlservice.settings import Settings
from mlservice.shutdown import SHUTDOWN

_FULL_SECONDS = 0.2


class QueueConsumer:
    """The consumer of one process (a ``Holder`` to its intake); belongs to one event loop."""

    def __init__(self, settings: Settings, path: PredictPath) -> None:
        """Connect to Kafka in the background; raises ``SettingsError`` for unusable options."""
        queue, topics = settings.queue, Topics.of(settings)
        limits = Limits(
            queue.deadline_ms / 1000,
            settings.gateway.deadline_ms / 1000,
            settings.gateway.max_request_bytes,
        )
        self.joined = False
        self.left = False
        self.ledger = Ledger(queue.most_in_flight)
        self._replier = Replier(path, topics, limits, self._wait)
        self._outbox = Outbox(queue)
        self._intake = Intake(queue, topics.requests, topics.group, self)
        self._tasks: dict[tuple[int, int], asyncio.Task[None]] = {}
        self._freed = asyncio.Event()
        self.stopping = False
        self._failure: BaseException | None = None

    async def run(self) -> None:
        """Read and answer until ``stop``; raises ``QueueError``.

        What is being answered then is finished, if that takes seconds, and committed. ``left``
        says then whether Kafka knows that this member is gone.
        """
        try:
            while not self.stopping:
                await self._turn()
        finally:
            answered = await self.give_up([*self.ledger.held])
            self.left = await self._intake.close(answered)
            self._outbox.close()

    def stop(self) -> None:
        """Let ``run`` come to its end."""
        self.stopping = True
        self._freed.set()

    async def hold(self, partitions: Sequence[int]) -> None:
        """See ``Holder``."""
        self.ledger.hold(partitions)
        self.joined = True

    async def give_up(self, partitions: Sequence[int]) -> Mapping[int, int]:
        """See ``Holder``; what is worked on gets some seconds, what waits for a worker none."""
        held = self.ledger.held.intersection(partitions)
        for message in self.ledger.leave(held):
            self._tasks[message.place].cancel()
        await self._end(held, SHUTDOWN.queue)
        return self.ledger.release(held)

    async def lose(self, partitions: Sequence[int]) -> None:
        """See ``Holder``."""
        held = self.ledger.held.intersection(partitions)
        self.ledger.leave(held)
        await self._end(held, 0)
        self.ledger.release(held)

    async def _turn(self) -> None:
        if not self.ledger.room:
            await self._wait_for_room()
        ledger = self.ledger
        for message in await self._intake.turn(ledger.room, ledger.stalled(), ledger.due()):
            if ledger.take(message):
                self._start(message)
        metrics.QUEUE_IN_FLIGHT.set(ledger.in_flight)
        if self._failure is not None:
            raise self._failure

    async def _wait_for_room(self) -> None:
        self._freed.clear()
        with suppress(TimeoutError):
            async with asyncio.timeout(_FULL_SECONDS):
                await self._freed.wait()

    def _start(self, message: Message) -> None:
        task = asyncio.create_task(self._work(message))
        self._tasks[message.place] = task
        task.add_done_callback(lambda task: self._done(message, task))

    async def _work(self, message: Message) -> None:
        reply = await self._replier.reply(message)
        for record in reply.records:
            await self._outbox.write(record)
        metrics.QUEUE_MESSAGES.labels(reply.outcome).inc()
        following = self.ledger.settle(message)
        if following is not None:
            self._start(following)

    def _done(self, message: Message, task: asyncio.Task[None]) -> None:
        del self._tasks[message.place]
        if not task.cancelled() and (error := task.exception()):
            self._failure = error
        self._freed.set()

    def _wait(self, message: Message, *, waits: bool) -> None:
        may = self.ledger.wait(message, waits=waits)
        if waits and not may:
            self._tasks[message.place].cancel()

    async def _end(self, partitions: Collection[int], grace: float) -> None:
        """Wait up to ``grace`` seconds until the work on these partitions ends, then cancel it."""

        def working() -> list[asyncio.Task[None]]:
            return [task for (number, _), task in self._tasks.items() if number in partitions]

        with suppress(TimeoutError):
            async with asyncio.timeout(grace):
                while tasks := working():  # one that ends may begin another
                    await asyncio.wait(tasks)
        for task in (late := working()):
            task.cancel()
        await asyncio.gather(*late, return_exceptions=True)
