"""Launches periodic jobs when their time has come; UTC, as the template's jobs have it."""

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
    """A thread that looks at the clock."""

    def __init__(self, server: Server) -> None:
        """Launch the server's jobs."""
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
                log.exception("the periodic jobs could not be launched")
            self._since = now

    def launch_due(self, since: datetime, now: datetime) -> None:
        """Launch what was due after ``since`` and up to ``now``."""
        with self._state.lock:
            periodic = [(k, job) for k, job in self._state.jobs.items() if job["Periodic"]]
        for key, job in periodic:
            due = next_moment(job, since)
            if due and due <= now and not job["Stop"] and job["ParameterizedJob"] is None:
                with self._state.write():
                    if not (job["Periodic"]["ProhibitOverlap"] and self._runs(key)):
                        self._server.launch(job, int(due.timestamp()))

    def _runs(self, key: Key) -> bool:
        """Whether a child has an evaluation or an allocation that is not over."""
        namespace = key[0]
        for child in self._state.children_of.get(key, ()):
            own = namespace, child
            if any(not each.terminal for each in self._state.evaluations(own)):
                return True
            if any(not each.terminal for each in self._state.allocations(own)):
                return True
        return False
