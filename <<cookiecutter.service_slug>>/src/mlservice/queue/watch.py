"""Looks from outside how the queue stands: whether Kafka answers, and how much is unanswered.

The consumer cannot tell: it hears nothing of partitions that it has paused, and an outage is to it
like a topic without messages. So another client of its group, which takes no part in it, asks. It
is no admin client: those lose track of a restarted broker, and abort the process over it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection

from confluent_kafka import Consumer, KafkaException, TopicPartition

from mlservice.observe import metrics
from mlservice.queue.client import configured, log
from mlservice.queue.ledger import Ledger
from mlservice.queue.topics import Topics
from mlservice.settings import QueueSettings

_PAUSE_SECONDS = 2.0
_RETRY_SECONDS = 0.5
_TIMEOUT_SECONDS = 2.0


class Watch:
    """Keeps ``unavailable_reason`` and the metric of the lag fresh while ``run`` runs."""

    def __init__(self, settings: QueueSettings, topics: Topics, ledger: Ledger) -> None:
        """Look at the partitions that ``ledger`` holds."""
        self.unavailable_reason: str | None = "Kafka has not been asked yet"
        self._topic = topics.requests
        self._ledger = ledger
        self._client = Consumer(configured(settings, {}, {"group.id": topics.group}))

    async def run(self) -> None:
        """Look again and again; ends by cancel."""
        while True:
            before = self.unavailable_reason
            self.unavailable_reason = await asyncio.to_thread(self._look, self._ledger.held)
            if self.unavailable_reason != before:
                log.info("%s", self.unavailable_reason or f"topic {self._topic} can be read")
            await asyncio.sleep(_RETRY_SECONDS if self.unavailable_reason else _PAUSE_SECONDS)

    def _look(self, numbers: Collection[int]) -> str | None:
        """Show the lag of these partitions; gives what is wrong with Kafka."""
        try:
            places = [TopicPartition(self._topic, number) for number in numbers or {0}]
            committed = self._client.committed(places, _TIMEOUT_SECONDS)
            lags = {place.partition: self._lag(place) for place in committed}
        except KafkaException as error:
            return f"topic {self._topic}: {error.args[0].str()}"
        metrics.QUEUE_LAG.clear()
        for number in numbers:
            metrics.QUEUE_LAG.labels(str(number)).set(lags[number])
        return None

    def _lag(self, committed: TopicPartition) -> int:
        """How many offsets lie behind the committed one, or in all where none is."""
        place = TopicPartition(self._topic, committed.partition)
        low, high = self._client.get_watermark_offsets(place, _TIMEOUT_SECONDS)
        return high - max(low, committed.offset)
