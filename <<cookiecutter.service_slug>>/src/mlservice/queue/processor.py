"""Joins consumer, predict path and producer, so that no message is lost.

A message counts as answered only when its answer is stored in Kafka. Each message gets a task of
its own, but messages of one key run one after the other. The ledger decides which message may start
and which offsets may be committed. This module only moves the messages.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress

from mlservice.observe import metrics
from mlservice.prediction.path import PredictPath
from mlservice.queue.consumer import RequestConsumer
from mlservice.queue.ledger import Ledger
from mlservice.queue.message import Message
from mlservice.queue.producer import ReplyProducer
from mlservice.queue.replier import Limits, Replier
from mlservice.queue.topics import Topics
from mlservice.settings import Settings
from mlservice.shutdown import SHUTDOWN

_MAX_WAIT_SECONDS = 0.2


class QueueProcessor:
    """Answers the messages of one process; belongs to one event loop.

    It is the ``RebalanceListener`` of its consumer.
    """

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
        self._replier = Replier(path, topics, limits, self._set_waiting)
        self._producer = ReplyProducer(queue)
        self._consumer = RequestConsumer(queue, topics.requests, topics.group, self)
        self._tasks: dict[tuple[int, int], asyncio.Task[None]] = {}
        self._room_freed = asyncio.Event()
        self.stopping = False
        self._failure: BaseException | None = None

    async def run(self) -> None:
        """Read and answer until ``stop``; raises ``QueueError``.

        Messages in work get some seconds to finish, and their offsets are committed. Afterwards
        ``left`` is True if Kafka confirmed that this member has left the group.
        """
        try:
            while not self.stopping:
                await self._step()
        finally:
            answered = await self.on_revoked([*self.ledger.assigned])
            self.left = await self._consumer.close(answered)
            self._producer.close()

    def stop(self) -> None:
        """Make ``run`` end."""
        self.stopping = True
        self._room_freed.set()

    async def on_assigned(self, partitions: Sequence[int]) -> None:
        """See ``RebalanceListener``."""
        self.ledger.assign(partitions)
        self.joined = True

    async def on_revoked(self, partitions: Sequence[int]) -> Mapping[int, int]:
        """See ``RebalanceListener``. Running messages get some seconds, waiting ones none."""
        revoked = self.ledger.assigned.intersection(partitions)
        for message in self.ledger.begin_revoke(revoked):
            self._tasks[message.place].cancel()
        await self._finish_tasks(revoked, SHUTDOWN.queue)
        return self.ledger.release(revoked)

    async def on_lost(self, partitions: Sequence[int]) -> None:
        """See ``RebalanceListener``."""
        revoked = self.ledger.assigned.intersection(partitions)
        self.ledger.begin_revoke(revoked)
        await self._finish_tasks(revoked, 0)
        self.ledger.release(revoked)

    async def _step(self) -> None:
        if not self.ledger.room:
            await self._wait_for_room()
        ledger = self.ledger
        for message in await self._consumer.poll(
            ledger.room, ledger.stalled(), ledger.committable()
        ):
            if ledger.add(message):
                self._start(message)
        metrics.QUEUE_IN_FLIGHT.set(ledger.in_flight)
        if self._failure is not None:
            raise self._failure

    async def _wait_for_room(self) -> None:
        self._room_freed.clear()
        with suppress(TimeoutError):
            async with asyncio.timeout(_MAX_WAIT_SECONDS):
                await self._room_freed.wait()

    def _start(self, message: Message) -> None:
        task = asyncio.create_task(self._process(message))
        self._tasks[message.place] = task
        task.add_done_callback(lambda task: self._on_task_done(message, task))

    async def _process(self, message: Message) -> None:
        reply = await self._replier.reply(message)
        for record in reply.records:
            await self._producer.write(record)
        metrics.QUEUE_MESSAGES.labels(reply.outcome).inc()
        following = self.ledger.complete(message)
        if following is not None:
            self._start(following)

    def _on_task_done(self, message: Message, task: asyncio.Task[None]) -> None:
        del self._tasks[message.place]
        if not task.cancelled() and (error := task.exception()):
            self._failure = error
        self._room_freed.set()

    def _set_waiting(self, message: Message, *, waits: bool) -> None:
        may_wait = self.ledger.set_waiting(message, waits=waits)
        if waits and not may_wait:
            self._tasks[message.place].cancel()

    async def _finish_tasks(self, partitions: Collection[int], grace: float) -> None:
        """Wait up to ``grace`` seconds for the tasks of these partitions, then cancel them."""

        def running() -> list[asyncio.Task[None]]:
            return [task for (number, _), task in self._tasks.items() if number in partitions]

        with suppress(TimeoutError):
            async with asyncio.timeout(grace):
                while tasks := running():  # a task that ends may start the next one of its key
                    await asyncio.wait(tasks)
        for task in (late := running()):
            task.cancel()
        await asyncio.gather(*late, return_exceptions=True)
