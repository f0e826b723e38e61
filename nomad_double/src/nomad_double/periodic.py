"""Launches periodic jobs when they are due, in UTC.

It looks at the clock once a second. A test calls ``launch_due`` with moments of its own instead of
waiting for a minute to begin.
"""

from __future__ import annotations

import logging
import threading
from datetime import UTC, datetime

from nomad_double.planning import next_moment
from nomad_double.server import Server
from nomad_double.state import Key

_LOOK_SECONDS = 1.0
log = logging.getLogger("nomad_double")


class Periodic:
    """A thread that watches the clock."""

    def __init__(self, server: Server) -> None:
        """Launch the server's jobs from now on."""
        self._server = server
        self._state = server.state
        self._since = datetime.now(UTC)
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True, name="nomad-periodic")
        self._thread.start()

    def close(self) -> None:
        """End the thread."""
        self._closed.set()
        self._thread.join(5)

    def _run(self) -> None:
        while not self._closed.wait(_LOOK_SECONDS):
            now = datetime.now(UTC)
            try:
                self.launch_due(self._since, now)
            except Exception:
                log.exception("periodic jobs could not be launched")
            self._since = now

    def launch_due(self, since: datetime, now: datetime) -> None:
        """Launch what was due after ``since``, up to ``now``."""
        with self._state.lock:
            periodic = [(k, job) for k, job in self._state.jobs.items() if job["Periodic"]]
        for key, job in periodic:
            due = next_moment(job, since)
            if due and due <= now and not job["Stop"] and job["ParameterizedJob"] is None:
                with self._state.write():
                    if not (job["Periodic"]["ProhibitOverlap"] and self._has_running_child(key)):
                        self._server.launch(job, int(due.timestamp()))

    def _has_running_child(self, key: Key) -> bool:
        """Whether a child has an evaluation or an allocation that has not ended."""
        namespace = key[0]
        for child in self._state.children_of.get(key, ()):
            own = namespace, child
            if any(not each.terminal for each in self._state.evaluations(own)):
                return True
            if any(not each.terminal for each in self._state.allocations(own)):
                return True
        return False
