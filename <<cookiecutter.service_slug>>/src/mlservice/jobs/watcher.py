"""Waits for all dispatched children of a service with one blocking listing.

The listing has only the children that are not dead. It is as long as the number of jobs in flight,
however many have run, so a grid of thousands costs no more than its pool. A child that has left
the listing has ended. Whether it ended well is not decided here: a batch job is dead after success
and failure alike, and a garbage-collected one is in no listing at all.

A listing that was requested before a child was registered cannot contain it, so the next request
does not block.
"""

from __future__ import annotations

import logging
import threading
import time
from dataclasses import dataclass, field

from mlservice.cluster import ListedJob, Nomad, Unplaced
from mlservice.errors import ClusterAway, JobError, MlserviceError

_WAIT_SECONDS = 30.0
_PENDING_WAIT_SECONDS = 3.0
_PAUSE_SECONDS = 0.1  # between two listings, so that a busy cluster is not flooded with requests
_MAX_PAUSE_SECONDS = 15.0
_PENDING_SECONDS = 10.0
_REPEAT_WARNING_SECONDS = 60.0
log = logging.getLogger("mlservice.pipeline")


@dataclass(eq=False)
class _Wait:
    """One thread that waits for a child."""

    child: str
    listed: bool = False
    done: threading.Event = field(default_factory=threading.Event)
    error: MlserviceError | None = None
    pending_since: float | None = None
    warned_at: float = 0.0


class ChildWatcher:
    """Watches the jobs whose names begin with ``prefix``; its thread runs while anyone waits."""

    def __init__(
        self, nomad: Nomad, prefix: str, *, placement_seconds: float, patience_seconds: float
    ) -> None:
        """Give a child ``placement_seconds`` to find a node, and Nomad ``patience_seconds``."""
        self._nomad = nomad
        self._prefix = prefix
        self._placement_seconds = placement_seconds
        self._patience_seconds = patience_seconds
        self._lock = threading.Lock()
        self._waits: set[_Wait] = set()
        self._thread: threading.Thread | None = None
        self._cancelled: MlserviceError | None = None

    def wait(self, child: str) -> None:
        """Return when ``child`` has ended.

        Raises ``JobError`` with Nomad's reason if no node takes it in time, and ``ClusterError``
        if Nomad stays away for too long or refuses.
        """
        wait = _Wait(child)
        with self._lock:
            if self._cancelled:
                raise self._cancelled
            self._waits.add(wait)
            if self._thread is None:
                self._thread = threading.Thread(target=self._watch, daemon=True, name="children")
                self._thread.start()
        wait.done.wait()
        if wait.error:
            raise wait.error

    def cancel(self, error: MlserviceError) -> list[str]:
        """Raise ``error`` in every wait, now and later; returns the children they waited for."""
        with self._lock:
            self._cancelled = error
            left = list(self._waits)
        self._finish(left, error)
        return [wait.child for wait in left]

    def _watch(self) -> None:
        index, away_since, pause = 0, None, _PAUSE_SECONDS
        while self._any_left():
            waits = self._snapshot()
            if not all(wait.listed for wait in waits):
                index = 0
            try:
                found = self._nomad.jobs(
                    self._prefix, alive=True, index=index, wait=self._wait_seconds()
                )
                self._compare({job.name: job for job in found.jobs}, waits)
                # An index that went back comes from a restored Nomad: do not block on it.
                index = 0 if found.index < index else found.index
                away_since, pause = None, _PAUSE_SECONDS
            except ClusterAway as error:
                away_since = away_since or time.monotonic()
                pause = min(_MAX_PAUSE_SECONDS, pause * 2)
                index = 0  # list at once when Nomad is back: it may have missed nothing, or much
                self._handle_absence(error, away_since)
            except MlserviceError as error:
                self._finish(self._snapshot(), error)
            except Exception as error:  # noqa: BLE001  # if the thread died, the waits would never end
                message = f"the children cannot be watched: {error!r}"
                self._finish(self._snapshot(), JobError(message))
            time.sleep(pause)

    def _any_left(self) -> bool:
        with self._lock:
            if not self._waits:
                self._thread = None
            return bool(self._waits)

    def _wait_seconds(self) -> float:
        """Shorter while a child waits for a node: then nothing changes, but we must warn."""
        pending = any(wait.pending_since for wait in self._snapshot())
        return _PENDING_WAIT_SECONDS if pending else _WAIT_SECONDS

    def _snapshot(self) -> list[_Wait]:
        with self._lock:
            return list(self._waits)

    def _compare(self, alive: dict[str, ListedJob], waits: list[_Wait]) -> None:
        for wait in waits:
            job = alive.get(wait.child)
            wait.listed = job is not None
            if job is None:
                self._finish([wait], None)
            elif job.status == "pending":
                self._check_placement(wait)
            else:
                wait.pending_since = None

    def _check_placement(self, wait: _Wait) -> None:
        now = time.monotonic()
        wait.pending_since = wait.pending_since or now
        pending = now - wait.pending_since
        quiet = pending < _PENDING_SECONDS or now - wait.warned_at < _REPEAT_WARNING_SECONDS
        if quiet and pending < self._placement_seconds:
            return
        wait.warned_at = now
        reason = placement_failure(self._nomad, wait.child) or "Nomad gives no reason"
        if pending < self._placement_seconds:
            log.warning("%s waits for a node since %.0f s: %s", wait.child, pending, reason)
            return
        self._nomad.stop(wait.child)
        self._finish(
            [wait],
            JobError(
                f"{wait.child} found no node in {pending:.0f} s and was stopped: {reason}: make "
                "room, or lower the job's memory_mb, or raise [pipeline] placement_minutes"
            ),
        )

    def _handle_absence(self, error: ClusterAway, since: float) -> None:
        away = time.monotonic() - since
        log.warning("%s; retrying since %.0f s", error, away)
        if away > self._patience_seconds:
            self._finish(self._snapshot(), error)

    def _finish(self, several: list[_Wait], error: MlserviceError | None) -> None:
        with self._lock:
            ended = self._waits.intersection(several)  # without those that ended meanwhile
            self._waits -= ended
        for wait in ended:
            wait.error = error
            wait.done.set()


def placement_failure(nomad: Nomad, job: str) -> str | None:
    """Return Nomad's own reason why no node takes the job, or None if it gives none."""
    for evaluation in reversed(nomad.evaluations(job)):
        for unplaced in evaluation.unplaced.values():
            return _described(unplaced)
    return None


def _described(unplaced: Unplaced) -> str:
    lacking = [f"{count} nodes lack {name}" for name, count in unplaced.exhausted.items()]
    failing = [f"{count} nodes fail {name}" for name, count in unplaced.filtered.items()]
    quotas = [f"the quota is used up: {name}" for name in unplaced.quotas]
    evaluated = f"{unplaced.evaluated} nodes were evaluated"
    return "; ".join((evaluated, *lacking, *failing, *quotas))
