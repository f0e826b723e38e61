"""Waits for the dispatched children of a service, all of them by one listing that blocks.

A listing of the children that are not dead is as long as there are jobs in flight, however many
have run, so a grid of thousands costs what its pool costs. What has left the listing has ended:
whether well is not asked here, since a batch job is dead after a success and a failure alike,
and one that was garbage-collected is in no listing at all. A listing says nothing of a child that
was waited for only after it was asked for, so the next one does not block.
"""

from __future__ import annotations

import logging
import threading
import time
from dataclasses import dataclass, field

from mlservice.cluster import Nomad
from mlservice.errors import ClusterAway, JobError, MlserviceError

_WAIT_SECONDS = 30.0
_PENDING_WAIT_SECONDS = 3.0
_PAUSE_SECONDS = 0.1  # between two listings, so that a busy cluster does not make us hammer it
_LONGEST_PAUSE = 15.0
_PENDING_SECONDS = 10.0
_SAY_AGAIN_SECONDS = 60.0
_NOT_DEAD = 'Status != "dead"'
log = logging.getLogger("mlservice.pipeline")


@dataclass(eq=False)
class _Waiting:
    child: str
    seen: bool = False
    done: threading.Event = field(default_factory=threading.Event)
    error: MlserviceError | None = None
    pending_since: float | None = None
    said: float = 0.0


class ChildWatcher:
    """Watches the jobs whose IDs begin with ``prefix``, in a thread of its own while any waits."""

    def __init__(
        self, nomad: Nomad, prefix: str, *, placement_seconds: float, patience_seconds: float
    ) -> None:
        """Wait for a node and for Nomad itself as long as these two say."""
        self._nomad = nomad
        self._prefix = prefix
        self._placement_seconds = placement_seconds
        self._patience_seconds = patience_seconds
        self._lock = threading.Lock()
        self._waiting: set[_Waiting] = set()
        self._thread: threading.Thread | None = None
        self._given_up: MlserviceError | None = None

    def wait(self, child: str) -> None:
        """Return when ``child`` has ended.

        Raises ``JobError`` with Nomad's reason where no node takes it for too long, and
        ``ClusterError`` where Nomad stays away or says no.
        """
        waiting = _Waiting(child)
        with self._lock:
            if self._given_up:
                raise self._given_up
            self._waiting.add(waiting)
            if self._thread is None:
                self._thread = threading.Thread(target=self._watch, daemon=True, name="children")
                self._thread.start()
        waiting.done.wait()
        if waiting.error:
            raise waiting.error

    def give_up(self, error: MlserviceError) -> list[str]:
        """Let all who wait, now or later, go with ``error``; returns whom they waited for."""
        with self._lock:
            self._given_up = error
            left = list(self._waiting)
        self._end(left, error)
        return [waiting.child for waiting in left]

    def _watch(self) -> None:
        index, away_since, pause = 0, None, _PAUSE_SECONDS
        while self._any_left():
            asked = self._snapshot()
            if not all(waiting.seen for waiting in asked):
                index = 0
            try:
                found, newest = self._nomad.jobs(
                    self._prefix, where=_NOT_DEAD, index=index, wait=self._wait_seconds()
                )
                self._compare({job["ID"]: job["Status"] for job in found}, asked)
                # An index that went backwards is of a Nomad that was restored: ask it anew.
                index = 0 if newest < index else newest
                away_since, pause = None, _PAUSE_SECONDS
            except ClusterAway as error:
                away_since = away_since or time.monotonic()
                pause = min(_LONGEST_PAUSE, pause * 2)
                index = 0  # whatever happened meanwhile, look at once when it is back
                self._say_away(error, away_since)
            except MlserviceError as error:
                self._end(self._snapshot(), error)
            except Exception as error:  # noqa: BLE001  # a thread that died would wait for ever
                self._end(self._snapshot(), JobError(f"the children cannot be watched: {error!r}"))
            time.sleep(pause)

    def _any_left(self) -> bool:
        with self._lock:
            if not self._waiting:
                self._thread = None
            return bool(self._waiting)

    def _wait_seconds(self) -> float:
        """Shorter while a child waits for a node: nothing changes then, and it must be said."""
        pending = any(waiting.pending_since for waiting in self._snapshot())
        return _PENDING_WAIT_SECONDS if pending else _WAIT_SECONDS

    def _snapshot(self) -> list[_Waiting]:
        with self._lock:
            return list(self._waiting)

    def _compare(self, alive: dict[str, str], asked: list[_Waiting]) -> None:
        for waiting in asked:
            status = alive.get(waiting.child)
            waiting.seen = status is not None
            if status is None:
                self._end([waiting], None)
            elif status == "pending":
                self._look_at_placement(waiting)
            else:
                waiting.pending_since = None

    def _look_at_placement(self, waiting: _Waiting) -> None:
        now = time.monotonic()
        waiting.pending_since = waiting.pending_since or now
        pending = now - waiting.pending_since
        said_lately = pending < _PENDING_SECONDS or now - waiting.said < _SAY_AGAIN_SECONDS
        if said_lately and pending < self._placement_seconds:
            return
        waiting.said = now
        reason = placement_failure(self._nomad, waiting.child) or "Nomad gives no reason"
        if pending < self._placement_seconds:
            log.warning("%s waits for a node since %.0f s: %s", waiting.child, pending, reason)
            return
        self._nomad.stop(waiting.child)
        self._end(
            [waiting],
            JobError(
                f"{waiting.child} found no node in {pending:.0f} s and was stopped: {reason}: make "
                "room, or lower the job's memory_mb, or raise [pipeline] placement_minutes"
            ),
        )

    def _say_away(self, error: ClusterAway, since: float) -> None:
        away = time.monotonic() - since
        log.warning("%s; asked again since %.0f s", error, away)
        if away > self._patience_seconds:
            self._end(self._snapshot(), error)

    def _end(self, several: list[_Waiting], error: MlserviceError | None) -> None:
        with self._lock:
            ended = self._waiting.intersection(several)  # not who was let go meanwhile
            self._waiting -= ended
        for waiting in ended:
            waiting.error = error
            waiting.done.set()


def placement_failure(nomad: Nomad, job: str) -> str | None:
    """Nomad's own reason why no node takes the job, or None where there is none."""
    for evaluation in reversed(nomad.evaluations(job)):
        for metric in (evaluation.get("FailedTGAllocs") or {}).values():
            parts = []
            for name, words in (("DimensionExhausted", "lack"), ("ConstraintFiltered", "fail")):
                counts = metric.get(name) or {}
                parts += [f"{count} nodes {words} {what}" for what, count in counts.items()]
            quota = metric.get("QuotaExhausted") or []
            parts += [f"the quota is used up: {what}" for what in quota]
            looked = f"{metric.get('NodesEvaluated', 0)} nodes were looked at"
            return "; ".join((looked, *parts))
    return None
