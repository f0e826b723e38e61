"""The names of a service's topics in Kafka: from the settings, or made from the service's name."""

from __future__ import annotations

from dataclasses import dataclass

from mlservice.settings import Settings


@dataclass(frozen=True)
class Topics:
    """The three topics, and the consumer group that shares the requests."""

    requests: str
    answers: str
    dead_letters: str
    group: str

    @classmethod
    def of(cls, settings: Settings) -> Topics:
        """The names for the service in ``settings``."""
        name, queue = settings.service.name, settings.queue
        return cls(
            queue.requests or f"{name}.requests",
            queue.answers or f"{name}.answers",
            queue.dead_letters or f"{name}.dead-letters",
            queue.group or name,
        )
