"""The client of the one node: runs allocations, and reports their states to the servers.

Reports come in rounds, as Nomad's do, so a caller sees the same delay between the end of a process
and the status of its allocation.
"""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from nomad_double.alloc_runner import AllocRunner
from nomad_double.objects import TERMINAL_CLIENT, Allocation, TaskState
from nomad_double.settings import Settings

_ROUND_SECONDS = 0.2  # Nomad's clients report at most this often


@dataclass(frozen=True)
class Report:
    """The state of an allocation."""

    alloc: str
    status: str
    description: str
    tasks: Mapping[str, TaskState]
    healthy: bool | None = None

    @property
    def ended(self) -> bool:
        """Whether the allocation is over."""
        return self.status in TERMINAL_CLIENT


class Client:
    """The allocations of the node; the server sets ``report``."""

    def __init__(self, settings: Settings) -> None:
        """Run tasks by ``settings``, in folders below its folder."""
        self.settings = settings
        self.report: Callable[[list[Report]], None] = lambda _: None
        self.folder = settings.folder
        self._lock = threading.Lock()
        self._runners: dict[str, AllocRunner] = {}
        self._changed: dict[str, AllocRunner] = {}
        self._wake = threading.Event()
        self._closed = False
        self._pool = ThreadPoolExecutor(512, thread_name_prefix="nomad-task")
        self._thread = threading.Thread(
            target=self._report_in_rounds, daemon=True, name="nomad-reports"
        )
        self._thread.start()

    def start(self, alloc: Allocation) -> None:
        """Start an allocation that was placed."""
        runner = AllocRunner(alloc, self.settings, self._note, self._pool)
        with self._lock:
            self._runners[alloc.id] = runner
        runner.start()

    def stop(self, alloc: Allocation) -> None:
        """Stop an allocation that is no longer wanted."""
        runner = self.runner(alloc.id)
        if runner:
            runner.stop()

    def update(self, alloc: Allocation) -> None:
        """Take over an allocation that was updated in place."""
        runner = self.runner(alloc.id)
        if runner:
            runner.update(alloc)

    def forget(self, name: str) -> None:
        """Remove the folder of an allocation that was collected as garbage."""
        with self._lock:
            runner = self._runners.pop(name, None)
        if runner and runner.folder.exists():
            shutil.rmtree(runner.folder, ignore_errors=True)

    def runner(self, name: str) -> AllocRunner | None:
        """Return the runner of an allocation, or None if it was collected."""
        with self._lock:
            return self._runners.get(name)

    def lose(self) -> None:
        """Kill all processes without a report, as if the node died."""
        with self._lock:
            runners, self._runners, self._changed = list(self._runners.values()), {}, {}
        for runner in runners:
            runner.kill_now()

    def close(self) -> None:
        """Kill all tasks at once, and end."""
        self._closed = True
        self._wake.set()
        self._thread.join(5)
        with self._lock:
            runners = list(self._runners.values())
        for runner in runners:
            runner.kill_now()
        for runner in runners:
            runner.join()
        self._pool.shutdown(wait=False, cancel_futures=True)
        self.settings.memory.close()

    def _note(self, runner: AllocRunner) -> None:
        with self._lock:
            if self._runners.get(runner.alloc.id) is runner:
                self._changed[runner.alloc.id] = runner
        self._wake.set()

    def _report_in_rounds(self) -> None:
        while not self._closed:
            self._wake.wait()
            time.sleep(_ROUND_SECONDS)
            self._wake.clear()
            with self._lock:
                news, self._changed = list(self._changed.values()), {}
            if news and not self._closed:
                self.report([_report(runner) for runner in news])


def _report(runner: AllocRunner) -> Report:
    tasks = runner.states()
    states = tasks.values()
    if any(state.failed and state.state == "dead" for state in states):
        status, words = "failed", "Failed tasks"
    elif any(state.state == "running" for state in states):
        status, words = "running", "Tasks are running"
    elif any(state.state == "pending" for state in states):
        status, words = "pending", "No tasks have started"
    else:
        status, words = "complete", "All tasks have completed"
    if status == "failed" and any(state.state != "dead" for state in states):
        status, words = "running", "Tasks are running"
    return Report(runner.alloc.id, status, words, tasks, runner.healthy)
