"""Remembers the size of memory with which a job succeeded. The next period begins with it."""

from __future__ import annotations

import json
import logging
import tempfile
from pathlib import Path

from mlservice.artifacts import Store
from mlservice.errors import ArtifactError, ArtifactNotFound
from mlservice.jobs.job import Job

log = logging.getLogger("mlservice.pipeline")


class MemorySizes:
    """Keeps in the artifact store the size of memory with which each job succeeded last."""

    def __init__(self, store: Store, service: str) -> None:
        """Keep the store and the service's name; nothing is read yet."""
        self._store = store
        self._service = service
        self._found: dict[str, int] = {}

    def recall(self, job: Job) -> int:
        """Return the size to begin with in MB: the remembered one, else the smallest."""
        if job.name not in self._found:
            self._found[job.name] = self._read(job)
        return self._found[job.name]

    def remember(self, job: Job, size: int) -> None:
        """Keep the size that was enough."""
        if self._found.get(job.name) == size:
            return
        self._found[job.name] = size
        with tempfile.TemporaryDirectory(prefix="memory-") as folder:
            file = Path(folder) / "memory.json"
            file.write_text(json.dumps({"memory_mb": size}), "utf-8")
            try:
                self._store.upload(self._key(job), file)
            except ArtifactError as error:
                # The artifact is complete; the next period only begins with too small a size.
                log.warning("the size of memory of job '%s' is not remembered: %s", job.name, error)

    def _read(self, job: Job) -> int:
        try:
            size = int(json.loads(self._store.read(self._key(job)))["memory_mb"])
        except (ArtifactNotFound, ValueError, KeyError, TypeError):
            return job.memory_mb[0]
        return size if size in job.memory_mb else job.memory_mb[0]

    def _key(self, job: Job) -> str:
        return f"{self._service}/memory/{job.name}.json"
