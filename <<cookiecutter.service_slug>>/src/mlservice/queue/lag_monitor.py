"""Monitors whether Kafka can be reached, and the consumer's lag.

The consumer itself cannot tell. It gets no news of paused partitions, and to it an outage looks
like a topic without messages. So a second consumer asks. It uses the same group's name but does not
join the group. An ``AdminClient`` is not used, because it aborts the process after a broker has
restarted.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection

from confluent_kafka import Consumer, KafkaException, TopicPartition

from mlservice.observe import metrics
from mlservice.queue.client import client_options, log
from mlservice.queue.ledger import Ledger
from mlservice.queue.topics import Topics
from mlservice.settings import QueueSettings

_CHECK_SECONDS = 2.0
_RETRY_SECONDS = 0.5
_TIMEOUT_SECONDS = 2.0


class LagMonitor:
    """Updates ``unavailable_reason`` and the metric of the lag while ``run`` runs."""

    def __init__(self, settings: QueueSettings, topics: Topics, ledger: Ledger) -> None:
        """Monitor the partitions that are assigned in ``ledger``."""
        self.unavailable_reason: str | None = "Kafka has not been asked yet"
        self._topic = topics.requests
        self._ledger = ledger
        self._consumer = Consumer(client_options(settings, {}, {"group.id": topics.group}))

    async def run(self) -> None:
        """Check every two seconds; ends by cancel."""
        while True:
            before = self.unavailable_reason
            self.unavailable_reason = await asyncio.to_thread(self._check, self._ledger.assigned)
            if self.unavailable_reason != before:
                log.info("%s", self.unavailable_reason or f"topic {self._topic} can be read")
            await asyncio.sleep(_RETRY_SECONDS if self.unavailable_reason else _CHECK_SECONDS)

    def _check(self, numbers: Collection[int]) -> str | None:
        """Set the lag of these partitions; returns why Kafka cannot be read, None if it can."""
        try:
            places = [TopicPartition(self._topic, number) for number in numbers or {0}]
            committed = self._consumer.committed(places, _TIMEOUT_SECONDS)
            lags = {place.partition: self._lag(place) for place in committed}
        except KafkaException as error:
            return f"topic {self._topic}: {error.args[0].str()}"
        metrics.QUEUE_LAG.clear()
        for number in numbers:
            metrics.QUEUE_LAG.labels(str(number)).set(lags[number])
        return None

    def _lag(self, committed: TopicPartition) -> int:
        """The number of offsets after the committed one, or of all if none is committed."""
        place = TopicPartition(self._topic, committed.partition)
        low, high = self._consumer.get_watermark_offsets(place, _TIMEOUT_SECONDS)
        return high - max(low, committed.offset)
