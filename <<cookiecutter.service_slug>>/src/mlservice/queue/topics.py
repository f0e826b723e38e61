"""The names that a service has in Kafka: those of the settings, or made from the service's own."""

from __future__ import annotations

from dataclasses import dataclass

from mlservice.settings import Settings


@dataclass(frozen=True)
class Topics:
    """Three topics, and the group whose members share the requests."""

    requests: str
    answers: str
    dead_letters: str
    group: str

    @classmethod
    def of(cls, settings: Settings) -> Topics:
        """Those of a service."""
        name, queue = settings.service.name, settings.queue
        return cls(
            queue.requests or f"{name}.requests",
            queue.answers or f"{name}.answers",
            queue.dead_letters or f"{name}.dead-letters",
            queue.group or name,
        )
