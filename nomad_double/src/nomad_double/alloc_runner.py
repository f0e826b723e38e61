"""Runs the tasks of one allocation side by side.

Tasks share their fate: if one fails, Nomad stops its siblings. The allocation also owns what no
single task does: its services in Consul, its health, and the order of its stop.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from typing import Any

from mlservice.jobspec.durations import format_duration
from nomad_double.consul import ConsulAgent, Registration
from nomad_double.environment import nomad_environment
from nomad_double.health import CheckWatch, HealthWatch
from nomad_double.objects import Allocation, TaskState
from nomad_double.settings import Settings
from nomad_double.task_events import event
from nomad_double.task_runner import TaskRunner

Json = dict[str, Any]


class AllocRunner:
    """One allocation on its node."""

    def __init__(
        self,
        alloc: Allocation,
        settings: Settings,
        note: Callable[[AllocRunner], None],
        pool: Executor,
    ) -> None:
        """Prepare the tasks; ``note`` is called when there is something to report."""
        self.alloc = alloc
        self.folder = settings.folder / "alloc" / alloc.id
        self.healthy: bool | None = None
        self._settings = settings
        self._note = note
        self._pool = pool
        self._stopping = threading.Event()
        self._lock = threading.Lock()
        self.group = _group(alloc)
        self.tasks = {
            task["Name"]: TaskRunner(
                alloc, self.group, task, self.folder, settings, self._task_changed
            )
            for task in self.group["Tasks"]
        }
        self._registration = self._services_in_consul(settings)
        self._health: HealthWatch | None = None
        self._checks: list[CheckWatch] = []

    def start(self) -> None:
        """Start the tasks and return at once."""
        if self._settings.run:
            self._pool.submit(self._run)
        else:
            name = f"alloc-{self.alloc.id[:8]}"
            threading.Thread(target=self._run, daemon=True, name=name).start()

    def stop(self) -> None:
        """Stop the tasks: leave Consul, shutdown_delay, signal, kill_timeout, SIGKILL."""
        with self._lock:
            if self._stopping.is_set():
                return
            self._stopping.set()
        threading.Thread(target=self._stop, daemon=True, name="alloc-stop").start()

    def kill_now(self) -> None:
        """Kill the processes at once."""
        self._stopping.set()
        self._leave_consul()
        for task in self.tasks.values():
            task.kill_now()

    def join(self) -> None:
        """Wait until the processes are gone."""
        for task in self.tasks.values():
            task.join()

    def update(self, alloc: Allocation) -> None:
        """Take over a changed job or deployment that needs no new allocation."""
        moved = alloc.deployment_id != self.alloc.deployment_id
        self.alloc, self.group = alloc, _group(alloc)
        if moved:
            self.healthy = None
        threading.Thread(target=self._follow_update, args=(moved,), daemon=True).start()

    def restart(self, names: Sequence[str]) -> None:
        """Restart tasks on a user's request."""
        for name in names:
            task = self.tasks[name]
            if task.state.state == "running":
                task.restart("User requested running tasks to restart")

    def states(self) -> Mapping[str, TaskState]:
        """Return the current states of the tasks."""
        return {name: task.state for name, task in self.tasks.items()}

    def _run(self) -> None:
        self._enter_consul()
        self._watch_health()
        tasks = list(self.tasks.values())
        threads = [threading.Thread(target=task.run, daemon=True) for task in tasks[1:]]
        for thread in threads:
            thread.start()
        tasks[0].run()
        for thread in threads:
            thread.join()
        self._leave_consul()

    def _follow_update(self, moved: bool) -> None:
        self._enter_consul()
        if moved:
            self._watch_health()

    def _services(self) -> list[tuple[str, list[Json]]]:
        """Return the services by their owner in Consul."""
        found = [(f"group-{self.group['Name']}", self.group["Services"] or [])]
        found += [(task["Name"], task["Services"] or []) for task in self.group["Tasks"]]
        return [(owner, services) for owner, services in found if services]

    def _services_in_consul(self, settings: Settings) -> Registration | None:
        if settings.consul is None or not self._services():
            return None
        agent = settings.consul_agent = settings.consul_agent or ConsulAgent(settings.consul)
        own = nomad_environment(self.alloc, self.group, self.group["Tasks"][0], self.folder)
        return Registration(agent, self.alloc, own)

    def _enter_consul(self) -> None:
        if self._registration is None or self._stopping.is_set():
            return
        for owner, services in self._services():
            self._registration.register(self.alloc, owner, services)
        if not self._checks:
            self._checks = [
                CheckWatch(self._registration, owner, services, self._restart_for_check)
                for owner, services in self._services()
            ]

    def _leave_consul(self) -> None:
        for watch in self._checks:
            watch.end()
        if self._health and self._stopping.is_set():
            self._health.end()
        if self._registration:
            self._registration.deregister()

    def _watch_health(self) -> None:
        if self._health:
            self._health.end()
        update = self.group["Update"]
        if self.alloc.job["Type"] == "service" and self.alloc.deployment_id and update:
            self._health = HealthWatch(update, self.states, self._registration, self._note_health)

    def _note_health(self, healthy: bool) -> None:
        self.healthy = healthy
        self._note(self)

    def _restart_for_check(self, reason: str) -> None:
        for task in self.tasks.values():
            if task.state.state == "running":
                task.restart(reason, failure=True)

    def _stop(self) -> None:
        self._leave_consul()
        wait = self.group["ShutdownDelay"] or 0
        if wait and any(task.alive for task in self.tasks.values()):
            words = (
                f"Waiting for shutdown_delay of {format_duration(wait)} before killing the task."
            )
            for task in self.tasks.values():
                task.emit(event("Waiting for shutdown delay", words))
            threading.Event().wait(wait / 1e9)
        for task in self.tasks.values():
            threading.Thread(target=task.stop, daemon=True, name="task-stop").start()

    def _task_changed(self, runner: TaskRunner) -> None:
        if runner.state.failed and runner.state.state == "dead":
            for other in self.tasks.values():
                if other is not runner and other.alive:
                    other.fail_with(runner.name)
        self._note(self)


def _group(alloc: Allocation) -> Json:
    found: Json = next(g for g in alloc.job["TaskGroups"] if g["Name"] == alloc.group)
    return found
