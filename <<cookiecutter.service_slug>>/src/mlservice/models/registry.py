"""Which model serves, in Consul: one key that the live files are rendered from, and a history.

``mlservice/SERVICE/model`` has the model that serves, and ``mlservice/SERVICE/models/VERSION`` each
one that ever did. (Workers that answer for another version than "stable" have the same keys below
``mlservice/SERVICE/versions/NAME``.) The first key is written before the second. If a publisher
dies in between, the model serves, and the next run writes its entry; no entry is ever of a model
that did not serve.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

from mlservice.cluster import ConsulStore
from mlservice.errors import ClusterError
from mlservice.live import STABLE, ModelRecord

NO_MODEL = "null"
_MAX_CONFLICTS = 20
Result = Literal["published", "unchanged", "late", "rolled back"]


@dataclass(frozen=True)
class Listed:
    """A published model, and whether it serves now."""

    record: ModelRecord
    serves: bool


class Registry:
    """The published models of one service."""

    def __init__(self, consul: ConsulStore, service: str, serves: str = STABLE) -> None:
        """Keep the keys; ``serves`` is the version that the workers answer for."""
        more = "" if serves == STABLE else f"/versions/{serves}"
        place = f"mlservice/{service}{more}"
        self.consul = consul
        self.key = f"{place}/model"
        self._history = f"{place}/models/"

    def current(self) -> ModelRecord | None:
        """Return the model that serves; None before the first one."""
        return self._read()[0]

    def published(self) -> list[Listed]:
        """Return all published models, the newest first."""
        current = self.current()
        records = {record.version: record for record in self._entries()}
        if current:
            records.setdefault(current.version, current)
        found = sorted(records.values(), key=_age, reverse=True)
        return [Listed(record, record == current) for record in found]

    def find(self, version: str) -> ModelRecord:
        """Return the model whose version begins with ``version``; raises ``ClusterError``."""
        found = [
            item.record for item in self.published() if item.record.version.startswith(version)
        ]
        if len(found) != 1:
            raise ClusterError(
                f"model '{version}': {len(found)} published models have such a version: give one "
                "that `mlservice models list` shows"
            )
        return found[0]

    def offer(self, record: ModelRecord) -> Result:
        """Let ``record`` serve if it is newer than every model that ever did.

        So a pipeline of an older period that ends late changes nothing, and one that runs again
        does not undo a rollback.
        """
        for _ in range(_MAX_CONFLICTS):
            current, index = self._read()
            if current == record:
                self._add_entry(record)
                return "unchanged"
            newest = max(
                (*self._entries(), *([current] if current else [])), key=_age, default=None
            )
            if newest == record:
                return "rolled back"
            if newest and _age(newest) > _age(record):
                return "late"
            if self._write(record, index):
                return "published"
        raise self._conflict()

    def choose(self, record: ModelRecord) -> Result:
        """Let ``record`` serve whatever its age, since an operator chose it."""
        for _ in range(_MAX_CONFLICTS):
            current, index = self._read()
            if current == record:
                return "unchanged"
            if current:
                self._add_entry(current)
            if self._write(record, index):
                return "published"
        raise self._conflict()

    def before(self) -> ModelRecord:
        """Return the newest model that is older than the serving one; raises ``ClusterError``."""
        current = self.current()
        older = [
            item.record
            for item in self.published()
            if current and not item.serves and _age(item.record) < _age(current)
        ]
        if not older:
            raise ClusterError(
                "there is no older model to go back to: publish one by "
                "`mlservice models publish URI`"
            )
        return older[0]

    def _read(self) -> tuple[ModelRecord | None, int]:
        entry = self.consul.get(self.key)
        if entry.value is None or entry.value.strip() == NO_MODEL:
            return None, entry.index
        return ModelRecord.decode(entry.value, f"Consul key {self.key}"), entry.index

    def _write(self, record: ModelRecord, index: int) -> bool:
        if not self.consul.put(self.key, record.encode(), index):
            return False
        self._add_entry(record)
        return True

    def _add_entry(self, record: ModelRecord) -> None:
        # An entry never changes, so an existing one is the same.
        self.consul.put(f"{self._history}{record.version}", record.encode(), 0)

    def _entries(self) -> list[ModelRecord]:
        return [
            ModelRecord.decode(entry.value, f"Consul key {entry.key}")
            for entry in self.consul.list(self._history)
            if entry.value
        ]

    def _conflict(self) -> ClusterError:
        return ClusterError(
            f"Consul key {self.key}: gave up after {_MAX_CONFLICTS} conflicting writes: stop the "
            "other process that writes it, and repeat"
        )


def _age(record: ModelRecord) -> tuple[datetime, datetime]:
    """The newest has the latest period and, within a period, was made last."""
    return datetime.fromisoformat(record.period).replace(tzinfo=UTC), record.created
