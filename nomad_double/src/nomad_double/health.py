"""Watches one allocation: its health for the deployment, and the checks that may restart it.

Both are questions of time: an allocation is healthy after it was well for ``min_healthy_time``, and
a check restarts its task after it has failed for long enough.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from mlservice.jobspec.durations import SECOND
from nomad_double.consul import Registration
from nomad_double.objects import TaskState

Json = dict[str, Any]
_LOOK_SECONDS = 0.1


class HealthWatch:
    """A thread that calls ``found`` once: with True if the allocation became healthy."""

    def __init__(
        self,
        update: Json,
        states: Callable[[], Mapping[str, TaskState]],
        registration: Registration | None,
        found: Callable[[bool], None],
    ) -> None:
        """Begin to watch, by the group's ``update`` block."""
        self._update = update
        self._states = states
        self._registration = registration if update["HealthCheck"] == "checks" else None
        self._found = found
        self._ended = threading.Event()
        threading.Thread(target=self._run, daemon=True, name="nomad-health").start()

    def end(self) -> None:
        """Stop watching."""
        self._ended.set()

    def _run(self) -> None:
        if self._update["HealthCheck"] == "manual":
            return
        deadline = time.time_ns() + self._update["HealthyDeadline"]
        since: int | None = None
        while not self._ended.wait(_LOOK_SECONDS):
            states = self._states().values()
            now = time.time_ns()
            if any(state.state == "dead" for state in states) or now > deadline:
                self._found(False)
                return
            well = all(state.state == "running" for state in states) and self._checks_pass()
            started = max((state.started_at for state in states), default=now)
            since = max(since or now, started) if well else None
            if since is not None and now - since >= self._update["MinHealthyTime"]:
                self._found(True)
                return

    def _checks_pass(self) -> bool:
        if self._registration is None:
            return True
        statuses = self._registration.statuses()
        return statuses is not None and all(s == "passing" for s in statuses.values())


@dataclass
class _Watched:
    check: Json
    identity: str
    failing_since: float | None = None


class CheckWatch:
    """Restarts an allocation if a check has failed for too long, by its ``check_restart``.

    Nomad counts time, not failures: a check may fail for ``(limit - 1) * interval`` after the
    grace. For a group's services the grace begins with the allocation.
    """

    def __init__(
        self,
        registration: Registration,
        owner: str,
        services: list[Json],
        restart: Callable[[str], None],
    ) -> None:
        """Begin to watch; ``restart`` is called with the reason."""
        self._registration = registration
        self._watched = list(_watchable(registration, owner, services))
        self._restart = restart
        self._ended = threading.Event()
        self._born = time.monotonic()
        if self._watched:
            threading.Thread(target=self._run, daemon=True, name="nomad-checks").start()

    def end(self) -> None:
        """Stop watching."""
        self._ended.set()

    def _run(self) -> None:
        while not self._ended.wait(_LOOK_SECONDS * 5):
            statuses = self._registration.statuses() or {}
            for watched in self._watched:
                if self._failed_too_long(watched, statuses.get(watched.identity)):
                    self._born = time.monotonic()
                    self._restart(f'healthcheck: check "{watched.check["Name"]}" unhealthy')
                    break

    def _failed_too_long(self, watched: _Watched, status: str | None) -> bool:
        rule, now = watched.check["CheckRestart"], time.monotonic()
        fails = status == "critical" or (status == "warning" and not rule["IgnoreWarnings"])
        if not fails or now - self._born < rule["Grace"] / SECOND:
            watched.failing_since = None
            return False
        watched.failing_since = watched.failing_since or now
        limit = (rule["Limit"] - 1) * watched.check["Interval"] / SECOND
        if now - watched.failing_since < limit:
            return False
        watched.failing_since = None
        return True


def _watchable(registration: Registration, owner: str, services: list[Json]) -> Iterator[_Watched]:
    for service in services:
        for check in service["Checks"] or []:
            if check["CheckRestart"] and check["CheckRestart"]["Limit"] > 0:
                yield _Watched(check, registration.check_id(service, owner, check))
