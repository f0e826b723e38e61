"""Which model serves, in Consul: one key that the live files are rendered from, and a history.

``mlservice/SERVICE/model`` holds the model that serves; ``mlservice/SERVICE/models/VERSION`` holds
each that ever did. (Workers that answer for another version than "stable" have the same below
``mlservice/SERVICE/versions/NAME``.) The first is written before the second, so that a publisher
that dies in between leaves a model that serves and is entered by the next run, and no entry that
never served.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

from mlservice.cluster import ConsulStore
from mlservice.errors import ClusterError
from mlservice.live import STABLE, ModelRecord

NO_MODEL = "null"
_MOST_CONFLICTS = 20
Result = Literal["published", "unchanged", "late", "rolled back"]


@dataclass(frozen=True)
class Listed:
    """A model that was published at some time, and whether it serves now."""

    record: ModelRecord
    serves: bool


class Registry:
    """The published models of one service."""

    def __init__(self, consul: ConsulStore, service: str, serves: str = STABLE) -> None:
        """Keep where they are: the models of the workers that answer for the version ``serves``."""
        more = "" if serves == STABLE else f"/versions/{serves}"
        place = f"mlservice/{service}{more}"
        self.consul = consul
        self.key = f"{place}/model"
        self._history = f"{place}/models/"

    def current(self) -> ModelRecord | None:
        """The model that serves; None before the first."""
        return self._read()[0]

    def published(self) -> list[Listed]:
        """All that were published, the newest first."""
        current = self.current()
        records = {record.version: record for record in self._entered()}
        if current:
            records.setdefault(current.version, current)
        found = sorted(records.values(), key=_age, reverse=True)
        return [Listed(record, record == current) for record in found]

    def find(self, version: str) -> ModelRecord:
        """The published model whose version begins with ``version``; raises ``ClusterError``."""
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
        """Let ``record`` serve if it is newer than every model that ever did; says what was done.

        So a pipeline of an older period that ends late changes nothing, and one that is run again
        does not undo a rollback.
        """
        for _ in range(_MOST_CONFLICTS):
            current, index = self._read()
            if current == record:
                self._enter(record)
                return "unchanged"
            newest = max(
                (*self._entered(), *([current] if current else [])), key=_age, default=None
            )
            if newest == record:
                return "rolled back"
            if newest and _age(newest) > _age(record):
                return "late"
            if self._write(record, index):
                return "published"
        raise self._contended()

    def choose(self, record: ModelRecord) -> Result:
        """Let ``record`` serve whatever its age: somebody wants it so."""
        for _ in range(_MOST_CONFLICTS):
            current, index = self._read()
            if current == record:
                return "unchanged"
            if current:
                self._enter(current)
            if self._write(record, index):
                return "published"
        raise self._contended()

    def before(self) -> ModelRecord:
        """The newest model that is older than the one that serves; raises ``ClusterError``."""
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
        self._enter(record)
        return True

    def _enter(self, record: ModelRecord) -> None:
        # Entries never change, so one that is there already says the same.
        self.consul.put(f"{self._history}{record.version}", record.encode(), 0)

    def _entered(self) -> list[ModelRecord]:
        return [
            ModelRecord.decode(entry.value, f"Consul key {entry.key}")
            for entry in self.consul.list(self._history)
            if entry.value
        ]

    def _contended(self) -> ClusterError:
        return ClusterError(
            f"Consul key {self.key}: somebody else wrote it each of {_MOST_CONFLICTS} times: find "
            "out who, and repeat"
        )


def _age(record: ModelRecord) -> tuple[datetime, datetime]:
    """The later the period, and within it the later made, the newer."""
    return datetime.fromisoformat(record.period).replace(tzinfo=UTC), record.created
