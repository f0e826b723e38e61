"""The event stream: the newest changes are kept, and readers get those that they follow.

A caller that follows the stream must survive what Nomad does to it: a limited buffer, and the end
of the stream for a reader that is too slow.
"""

from __future__ import annotations

import queue
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from nomad_double.objects import Allocation, Deployment, Evaluation

Json = dict[str, Any]
_BUFFERED = 100  # entries; event_buffer_size
_MAX_LAG = 10_000  # entries


@dataclass(frozen=True)
class Change:
    """One change within one entry of the log."""

    topic: str
    kind: str
    key: str
    namespace: str
    value: Any
    also: tuple[str, ...]

    def json(self, index: int) -> Json:
        """Return the API's Event."""
        return {
            "Topic": self.topic, "Type": self.kind, "Key": self.key, "Namespace": self.namespace,
            "FilterKeys": list(self.also) or None, "Index": index, "Payload": self._payload(),
        }  # fmt: skip

    def _payload(self) -> Json:
        if isinstance(self.value, Allocation):
            found = self.value.full()
            return {"Allocation": {k: v for k, v in found.items() if k != "Job"}}
        if isinstance(self.value, Evaluation | Deployment):
            return {self.topic: self.value.json()}
        return {self.topic: self.value}


@dataclass(frozen=True)
class Subscription:
    """What a reader follows: topics with their keys, and the namespace."""

    topics: Mapping[str, frozenset[str]]
    namespace: str

    def matches(self, change: Change) -> bool:
        """Whether the reader gets the change."""
        if self.namespace not in ("*", change.namespace):
            return False
        keys = self.topics.get(change.topic) or self.topics.get("*") or frozenset()
        return "*" in keys or change.key in keys or any(key in keys for key in change.also)


Entry = tuple[int, list[Change]]


class Broker:
    """The newest entries, and the readers. The state's lock protects it."""

    def __init__(self) -> None:
        """Begin without entries."""
        self._buffer: deque[Entry] = deque(maxlen=_BUFFERED)
        self._readers: set[queue.SimpleQueue[Entry | None]] = set()

    def publish(self, index: int, changes: list[Change]) -> None:
        """Give an entry to the readers; disconnect a reader that lags too far behind."""
        if not changes:
            return
        self._buffer.append((index, changes))
        for reader in list(self._readers):
            if reader.qsize() > _MAX_LAG:
                self._readers.discard(reader)
                reader.put(None)
            else:
                reader.put((index, changes))

    def follow(self, index: int) -> queue.SimpleQueue[Entry | None]:
        """Return a queue of the entries from ``index`` on, if they are kept. None ends it."""
        reader: queue.SimpleQueue[Entry | None] = queue.SimpleQueue()
        for entry in self._buffer:
            if entry[0] >= index:
                reader.put(entry)
        self._readers.add(reader)
        return reader

    def leave(self, reader: queue.SimpleQueue[Entry | None]) -> None:
        """Remove a reader."""
        self._readers.discard(reader)

    def close(self) -> None:
        """End all readers."""
        for reader in self._readers:
            reader.put(None)
        self._readers.clear()
