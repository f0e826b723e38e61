"""The event stream: what changed, kept for a while and handed to whoever follows."""

from __future__ import annotations

import queue
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from nomad_double.objects import Allocation, Deployment, Evaluation

Json = dict[str, Any]
_BUFFERED = 100  # entries; event_buffer_size
_MAX_LAG = 10_000  # entries that a reader may lag behind


@dataclass(frozen=True)
class Change:
    """One thing that one entry of the log changed."""

    topic: str
    kind: str
    key: str
    namespace: str
    value: Any
    also: tuple[str, ...]

    def json(self, index: int) -> Json:
        """The API's Event."""
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
    """What a reader follows: topics with the keys to let through, and the namespace."""

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
    """Keeps the newest entries and the readers; used under the state's lock."""

    def __init__(self) -> None:
        """Nothing happened yet."""
        self._buffer: deque[Entry] = deque(maxlen=_BUFFERED)
        self._readers: set[queue.SimpleQueue[Entry | None]] = set()

    def publish(self, index: int, changes: list[Change]) -> None:
        """Hand an entry to the readers; one that lags too far behind is cut off."""
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
        """A queue of the entries from ``index`` on, as far as they are kept; None ends it."""
        reader: queue.SimpleQueue[Entry | None] = queue.SimpleQueue()
        for entry in self._buffer:
            if entry[0] >= index:
                reader.put(entry)
        self._readers.add(reader)
        return reader

    def leave(self, reader: queue.SimpleQueue[Entry | None]) -> None:
        """The reader is gone."""
        self._readers.discard(reader)

    def close(self) -> None:
        """End all readers."""
        for reader in self._readers:
            reader.put(None)
        self._readers.clear()
