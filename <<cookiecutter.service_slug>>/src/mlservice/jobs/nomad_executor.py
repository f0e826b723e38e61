"""Runs jobs as dispatched children of parameterized Nomad jobs.

A call is dispatched once, however often it is requested: its artifact decides first, then a child
that runs already, then Nomad's idempotency token. The token alone is not enough. Nomad forgets it
with the garbage-collected child, and it keeps a failed call from being tried again.
"""

from __future__ import annotations

import hashlib
import json
import logging
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import TypeVar

from mlservice.artifacts import Store
from mlservice.artifacts.manifest import MANIFEST_NAME
from mlservice.cluster import Dispatched, ListedJob, Nomad
from mlservice.errors import (
    ArtifactExists,
    ClusterAway,
    ClusterError,
    JobError,
    JobNotRegistered,
)
from mlservice.jobs.call import JobCall
from mlservice.jobs.exit_reason import ExitReason, read_exit_reason
from mlservice.jobs.job import Job
from mlservice.jobs.sizes import MemorySizes
from mlservice.jobs.watcher import ChildWatcher
from mlservice.observe import metrics

MAX_PAYLOAD_BYTES = 16_384
_FINAL_CODES = (2, 4, 5)  # settings, arguments, a refused model: another try ends alike
_PATIENCE_SECONDS = 600.0
_MIN_PAUSE_SECONDS = 0.5
_MAX_PAUSE_SECONDS = 15.0
_MAX_REPLAYS = 20
_CANCELLED = "the run was cancelled"
Result = TypeVar("Result")
log = logging.getLogger("mlservice.pipeline")


class NomadExecutor:
    """Dispatches each call and waits for its artifact; may be used from many threads."""

    def __init__(
        self,
        nomad: Nomad,
        store: Store,
        service: str,
        *,
        tries: int = 2,
        placement_seconds: float = 1800.0,
        patience_seconds: float = _PATIENCE_SECONDS,
        stop_on_close: bool = False,
    ) -> None:
        """Try a failing call ``tries`` times; ``stop_on_close`` stops what runs when cancelled."""
        self._nomad = nomad
        self._store = store
        self._service = service
        self._tries = tries
        self._patience_seconds = patience_seconds
        self._stop_on_close = stop_on_close
        self._watcher = ChildWatcher(
            nomad,
            f"{service}-job-",
            placement_seconds=placement_seconds,
            patience_seconds=patience_seconds,
        )
        self._sizes = MemorySizes(store, service)
        self._lock = threading.Lock()
        self._closed = threading.Event()
        self._known: dict[str, list[ListedJob]] | None = None

    def run(self, job: Job, call: JobCall) -> None:
        """See ``Executor``."""
        size = self._sizes.recall(job)
        running, number = self._adopt_child(call.output)
        failures = 0
        while not self._is_complete(call):
            child = running or self._dispatch_new(call, size, number)
            running = None
            self._stop_if_cancelled(child)
            self._watcher.wait(child)
            if self._is_complete(call):
                break
            reason = self._retry(partial(read_exit_reason, self._nomad, child))
            metrics.JOBS_FAILED.labels(job.name, reason.kind).inc()
            if reason.kind == "memory":
                size = self._next_size(job, size, child)
                continue
            failures += 1
            # A child that is gone may never have existed (see Nomad.dispatch). The same token
            # then finds the one that was made instead.
            number += reason.kind != "gone"
            if failures >= self._tries or not _may_succeed(reason):
                raise JobError(f"job '{job.name}' {reason.message} ({child})")
            log.warning("%s %s; it is tried again", child, reason.message.partition("\n")[0])
        self._sizes.remember(job, size)

    def close(self) -> None:
        """See ``Executor``: children run on, for the next run to pick up, or are stopped."""
        self._closed.set()
        for child in self._watcher.cancel(JobError(_CANCELLED)):
            self._release(child)

    def _stop_if_cancelled(self, child: str) -> None:
        if self._closed.is_set():
            self._release(child)
            raise JobError(f"{_CANCELLED} ({child})")

    def _release(self, child: str) -> None:
        if not self._stop_on_close:
            log.warning("%s runs on; the same command picks it up", child)
            return
        try:
            self._nomad.stop(child)
            log.warning("%s was stopped", child)
        except ClusterError as error:
            log.error("%s could not be stopped and runs on: %s", child, error)

    def _is_complete(self, call: JobCall) -> bool:
        return self._store.exists(f"{call.output}/{MANIFEST_NAME}")

    def _dispatch_new(self, call: JobCall, size: int, number: int) -> str:
        """Return a living child for the call; a token may lead to one that died before."""
        for attempt in range(number, number + _MAX_REPLAYS):
            found = self._dispatch(call, size, attempt)
            if not found.replayed:
                return found.child
            job = self._retry(partial(self._nomad.job, found.child))
            if job is not None and job.alive:
                log.info("%s runs already and is waited for", found.child)
                return found.child
        raise JobError(
            f"job '{call.job}': Nomad answers {_MAX_REPLAYS} dispatches with dead children: "
            "collect its garbage (`nomad system gc`) and run again"
        )

    def _dispatch(self, call: JobCall, size: int, attempt: int) -> Dispatched:
        parent = parent_name(self._service, call.job, size)
        payload = self._payload(call)
        token = hashlib.sha256(f"{call.output}\n{size}\n{attempt}".encode()).hexdigest()[:32]
        meta = {"output": call.output, "attempt": str(attempt)}
        try:
            found = self._retry(partial(self._nomad.dispatch, parent, payload, meta, token))
        except JobNotRegistered as error:
            raise JobError(
                f"job '{call.job}': {parent} is not registered: run `mlservice deploy register`"
            ) from error
        if not found.replayed:
            metrics.JOBS_DISPATCHED.labels(call.job, size).inc()
        return found

    def _payload(self, call: JobCall) -> bytes:
        """The call itself, or its key in the store if it is too large for Nomad."""
        payload = call.encode().encode()
        if len(payload) <= MAX_PAYLOAD_BYTES:
            return payload
        key = f"{self._service}/calls/{hashlib.sha256(payload).hexdigest()}.json"
        try:
            self._store.create(key, payload)
        except ArtifactExists:
            log.debug("%s is in the store already", key)
        return json.dumps({"stored": key}).encode()

    def _adopt_child(self, output: str) -> tuple[str | None, int]:
        """Return a living child that an earlier run left, and the number of dead ones."""
        with self._lock:
            if self._known is None:
                self._known = self._retry(self._list_children)
            children = self._known.pop(output, [])
        running = next((child.name for child in children if child.alive), None)
        if running:
            log.info("%s runs already and is waited for", running)
        return running, sum(not child.alive for child in children)

    def _list_children(self) -> dict[str, list[ListedJob]]:
        known: dict[str, list[ListedJob]] = {}
        for job in self._nomad.jobs(f"{self._service}-job-", meta=True).jobs:
            output = job.meta.get("output")
            if job.parent and output:
                known.setdefault(output, []).append(job)
        return known

    def _next_size(self, job: Job, size: int, child: str) -> int:
        metrics.JOBS_OUT_OF_MEMORY.labels(job.name, size).inc()
        larger = next((other for other in job.memory_mb if other > size), None)
        if larger is None:
            raise JobError(
                f"job '{job.name}' was killed for memory with {size} MB, its largest size "
                f"({child}): add a larger one to memory_mb and register it"
            )
        log.warning("%s was killed for memory with %d MB; it is tried with %d", child, size, larger)
        return larger

    def _retry(self, request: Callable[[], Result]) -> Result:
        """Repeat an idempotent request while Nomad is away, with growing pauses."""
        end = time.monotonic() + self._patience_seconds
        pause = _MIN_PAUSE_SECONDS
        while not self._closed.is_set():
            try:
                return request()
            except ClusterAway as error:
                if time.monotonic() + pause > end:
                    raise
                log.warning("%s; next try in %.1f s", error, pause)
            self._closed.wait(pause)
            pause = min(_MAX_PAUSE_SECONDS, pause * 2)
        raise JobError(_CANCELLED)


def parent_name(service: str, job: str, size: int) -> str:
    """Return the name of the parameterized Nomad job for a job in one size of memory (MB)."""
    return f"{service}-job-{job}-{size}"


def _may_succeed(reason: ExitReason) -> bool:
    """Whether another try of the same call could end otherwise."""
    return reason.kind != "stopped" and reason.code not in _FINAL_CODES
