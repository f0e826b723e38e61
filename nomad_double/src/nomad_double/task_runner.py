"""Runs one task: prepares its folder, starts its process, restarts it, and stops it.

The order of the steps and of the events is Nomad's, because callers read the events to learn what
happened.
"""

from __future__ import annotations

import base64
import logging
import signal
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from mlservice.jobspec.durations import format_duration
from nomad_double.drivers import ConfigError, DriverError, check_config, command_line
from nomad_double.environment import (
    filled_in,
    merged_meta,
    nomad_environment,
    task_environment,
)
from nomad_double.objects import MAX_EVENTS, Allocation, TaskState
from nomad_double.process import Process
from nomad_double.restarts import WITHIN_POLICY, Decision, RestartTracker
from nomad_double.settings import Settings, TaskContext
from nomad_double.task_events import event, terminated
from nomad_double.templates import TemplateError, Templates

Json = dict[str, Any]
OUT_OF_MEMORY = 137
_MAX_KILL_TIMEOUT = 30 * 1_000_000_000  # the clients' max_kill_timeout
log = logging.getLogger("nomad_double")
_DEFAULT_SIGNALS = {"docker": "SIGTERM"}


@dataclass(frozen=True)
class _Exit:
    code: int
    signal: int = 0
    message: str = ""
    out_of_memory: bool = False

    @property
    def success(self) -> bool:
        return self.code == 0 and self.signal == 0


class TaskRunner:
    """One task of an allocation. Its state is a value that is replaced."""

    def __init__(
        self,
        alloc: Allocation,
        group: Json,
        task: Json,
        alloc_folder: Path,
        settings: Settings,
        changed: Callable[[TaskRunner], None],
    ) -> None:
        """Prepare; ``changed`` is called after every change of the state."""
        self.name = task["Name"]
        self.state = TaskState()
        self._alloc, self._group, self._task = alloc, group, task
        self._alloc_folder = alloc_folder
        self._folder = alloc_folder / task["Name"]
        self._settings = settings
        self._changed = changed
        self._lock = threading.RLock()
        self._process: Process | None = None
        self._killed = threading.Event()
        self._restart_reason = ""
        self._templates: Templates | None = None
        self._done = threading.Event()
        self._restarts = RestartTracker(
            task["RestartPolicy"], on_success=alloc.job["Type"] in ("service", "system")
        )

    @property
    def _kill_timeout(self) -> int:
        return min(int(self._task["KillTimeout"]), _MAX_KILL_TIMEOUT)

    @property
    def alive(self) -> bool:
        """Whether the task is not dead."""
        return self.state.state != "dead"

    def run(self) -> None:
        """Run the task until it is dead."""
        try:
            self.emit(event("Received", "Task received by client"))
            self.emit(event("Task Setup", "Building Task Directory"))
            while not self._killed.is_set():
                if not self._wait_for_restart(self._run_once()):
                    break
        finally:
            self._finish()
            self._done.set()

    def emit(self, what: Json, **state: Any) -> None:
        """Add an event and change the state. The newest ten events are kept."""
        with self._lock:
            events = (*self.state.events, what)[-MAX_EVENTS:]
            self.state = replace(self.state, events=events, **state)
        self._changed(self)

    def stop(self) -> None:
        """Stop the task: its signal, its kill_timeout, then SIGKILL."""
        if self._killed.is_set() or not self.alive:
            self._killed.set()
            return
        timeout = self._kill_timeout
        if self._task["ShutdownDelay"]:
            self._killed.wait(self._task["ShutdownDelay"] / 1e9)
        waiting = f"Sent interrupt. Waiting {format_duration(timeout)} before force killing"
        self.emit(event("Killing", waiting, kill_timeout=format_duration(timeout)))
        self._end_process(timeout)

    def fail_with(self, sibling: str) -> None:
        """Stop the task because a sibling failed."""
        words = f'Task\'s sibling "{sibling}" failed'
        self.emit(event("Sibling Task Failed", words, failed_sibling=sibling))
        threading.Thread(target=self.stop, daemon=True, name="task-stop").start()

    def restart(self, reason: str, display: str = "", *, failure: bool = False) -> None:
        """Stop the process and start it again.

        Only a ``failure`` counts for the restart policy.
        """
        details = {} if display else {"restart_reason": reason}
        self.emit(event("Restart Signaled", display or reason, **details))
        self._restart_reason = "failure" if failure else "request"
        self._end_process(self._kill_timeout, final=False)

    def signal(self, name: str, display: str) -> None:
        """Send the process a signal; raise ``ValueError`` for an unknown one."""
        number = _signal_number(name)
        self.emit(event("Signaling", display, task_signal=name))
        process = self._process
        if process:
            process.signal(number)

    def kill_now(self) -> None:
        """Kill the process at once."""
        self._killed.set()
        process = self._process
        if process:
            process.signal(signal.SIGKILL)

    def join(self) -> None:
        """Wait a moment until the process is gone."""
        if self._process:
            self._process.ended(5)

    def _run_once(self) -> _Exit | bool:
        """Start the task and wait for its end.

        Returns a bool if it did not start: whether another try may succeed.
        """
        self._restart_reason = ""
        try:
            self._check_supported()
            environment = self._render(self._prepare())
            if environment is None:
                return False
            check_config(self._task["Driver"], self._config(environment), list(self._ports()))
            found = (
                self._run_function(environment)
                if self._settings.run
                else self._run_process(environment)
            )
        except ConfigError as error:
            self.emit(event("Failed Validation", f"{error}", validation_error=f"{error}"))
            return False
        except DriverError as error:
            self.emit(event("Driver Failure", f"{error}", driver_error=f"{error}"))
            return False
        self.emit(
            terminated(found.code, found.signal, found.message, out_of_memory=found.out_of_memory)
        )
        return found

    def _wait_for_restart(self, found: _Exit | bool) -> bool:
        """Wait as the restart policy asks; return False if the task is over."""
        if self._killed.is_set():
            return False
        if self._restart_reason == "request":
            self.emit(
                event("Restarting", "Task restarting in 0s", start_delay=0),
                state="pending", restarts=self.state.restarts + 1, last_restart=time.time_ns(),
            )  # fmt: skip
            return True
        if isinstance(found, bool):
            decision = self._restarts.after_failed_start(recoverable=found)
        else:
            success = found.success and self._restart_reason != "failure"
            decision = self._restarts.after_exit(success=success)
        return self._apply_decision(decision)

    def _apply_decision(self, decision: Decision) -> bool:
        if not decision.again:
            if decision.fails:
                self.emit(
                    event(
                        "Not Restarting", decision.reason,
                        restart_reason=decision.reason, fails_task=True,
                    ),
                    failed=True,
                )  # fmt: skip
            return False
        wait = f"Task restarting in {format_duration(decision.delay)}"
        words = wait if decision.reason == WITHIN_POLICY else f"{decision.reason} - {wait}"
        self.emit(
            event("Restarting", words, restart_reason=decision.reason, start_delay=decision.delay),
            state="pending", restarts=self.state.restarts + 1, last_restart=time.time_ns(),
        )  # fmt: skip
        self._killed.wait(decision.delay / 1e9)
        return True

    def _finish(self) -> None:
        if self._templates:
            self._templates.end()
        with self._lock:
            self.state = replace(self.state, state="dead", finished_at=time.time_ns())
        if self._killed.is_set():
            self.emit(event("Killed", "Task successfully killed"))
        else:
            self._changed(self)

    def _prepare(self) -> dict[str, str]:
        """Make the folders and the payload's file; return the environment."""
        own = nomad_environment(self._alloc, self._group, self._task, self._alloc_folder)
        if not self._settings.run:
            for name in ("local", "secrets", "tmp"):
                (self._folder / name).mkdir(parents=True, exist_ok=True)
            for name in ("logs", "data", "tmp"):
                (self._alloc_folder / "alloc" / name).mkdir(parents=True, exist_ok=True)
            self._write_payload()
        return task_environment(own, self._task["Env"] or {}, self._settings.node)

    def _render(self, environment: dict[str, str]) -> dict[str, str] | None:
        """Render the templates, and add theirs to the environment.

        Returns None if the task was killed meanwhile.
        """
        wanted = self._task["Templates"]
        if not wanted or self._settings.run:
            return environment
        try:
            if self._templates is None and not self._render_first(wanted, environment):
                return None
            assert self._templates is not None  # noqa: S101  # made just now
            return {**environment, **self._templates.environment()}
        except TemplateError as error:
            self._kill_for_template(f"{error}")
            return None

    def _render_first(self, wanted: list[Json], environment: dict[str, str]) -> bool:
        program = self._settings.consul_template
        if program is None:
            words = "the double has no consul-template: give consul_template= or --consul-template"
            self.emit(event("Setup Failure", words, setup_error=words))
            raise TemplateError(words)
        self._templates = Templates(
            program, self._settings.consul, wanted, self._folder, environment
        )
        if not self._templates.wait_for_first(
            lambda words: self.emit(event("Template", words)), self._killed
        ):
            return False
        self._templates.follow(
            self._restart_for_template,
            lambda name: self.signal(name, "Template re-rendered"),
            self._kill_for_template,
        )
        return True

    def _restart_for_template(self) -> None:
        if self.state.state == "running":
            self.restart("", "Template with change_mode restart re-rendered")

    def _kill_for_template(self, words: str) -> None:
        display = words if words.startswith("Template failed") else f"Template failed: {words}"
        self.emit(event("Killing", display, kill_reason=display, fails_task=True), failed=True)
        self._end_process(self._kill_timeout)

    def _check_supported(self) -> None:
        """Fail for blocks that Nomad supports and the double does not."""
        for block in ("Artifacts", "Lifecycle", "VolumeMounts"):
            if self._task[block]:
                raise DriverError(f"the double does not support {block} of a task: remove it")

    def _write_payload(self) -> None:
        block, payload = self._task["DispatchPayload"], self._alloc.job["Payload"]
        if block and payload:
            path = self._folder / "local" / block["File"]
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(base64.b64decode(payload))

    def _config(self, environment: Mapping[str, str]) -> Json:
        found: Json = filled_in(self._task["Config"] or {}, environment, self._settings.node)
        return found

    def _ports(self) -> dict[str, int]:
        ports = self._alloc.resources["Shared"]["Ports"] or []
        return {port["Label"]: port["Value"] for port in ports}

    def _started(self) -> None:
        started = event("Started", "Task started by client")
        self.emit(started, state="running", started_at=time.time_ns())

    def _run_process(self, environment: Mapping[str, str]) -> _Exit:
        config = self._config(environment)
        logs = [self.log_file(kind) for kind in ("stdout", "stderr")]
        command = command_line(self._task["Driver"], config)
        try:
            process = Process(command, self._folder, environment, logs)
        except OSError as error:
            raise DriverError(
                f"failed to launch command with executor: rpc error: code = Unknown desc = {error}"
            ) from error
        with self._lock:
            self._process = process
        if self._killed.is_set():
            process.signal(signal.SIGKILL)
        self._watch_memory(process)
        self._started()
        code = process.wait()
        self._settings.memory.remove(process.group)
        return self._exit(code, process.out_of_memory)

    def _watch_memory(self, process: Process) -> None:
        resources = self._task["Resources"]
        most = resources["MemoryMB"]
        if self._settings.oversubscription and resources["MemoryMaxMB"] > 0:
            most = resources["MemoryMaxMB"]

        def over() -> None:
            process.out_of_memory = True
            process.signal(signal.SIGKILL)

        self._settings.memory.add(process.group, most, over)

    def _exit(self, code: int, out_of_memory: bool) -> _Exit:
        """Return the exit as the task's driver reports it."""
        number = -code if code < 0 else 0
        code = 128 + number if number else code
        driver = self._task["Driver"]
        seen = out_of_memory and driver != "raw_exec" and not self._settings.hide_oom
        if seen:
            return _Exit(OUT_OF_MEMORY, 0 if driver == "docker" else number, "OOM Killed", True)
        if driver == "docker":
            words = f"Docker container exited with non-zero exit code: {code}" if code else ""
            return _Exit(code, 0, words)
        return _Exit(code, number)

    def _run_function(self, environment: Mapping[str, str]) -> _Exit:
        assert self._settings.run is not None  # noqa: S101  # the caller has checked it
        job = self._alloc.job
        context = TaskContext(
            self._alloc.id, job["ID"], job["ParentID"], self._group["Name"], self.name, environment,
            merged_meta(job, self._group, self._task), base64.b64decode(job["Payload"] or ""),
            self._folder, self._killed,
        )  # fmt: skip
        self._started()
        try:
            return self._exit(self._settings.run(context), False)
        except MemoryError:
            return self._exit(-signal.SIGKILL, True)
        except Exception:
            log.exception("the function that stands in for %s failed", job["ID"])
            return self._exit(1, False)

    def log_file(self, kind: str) -> Path:
        """Return the file of the task's stdout or stderr."""
        return self._alloc_folder / "alloc" / "logs" / f"{self.name}.{kind}.0"

    def _end_process(self, timeout: int, *, final: bool = True) -> None:
        if final:
            self._killed.set()
        with self._lock:
            process = self._process
        if process is None or process.ended(0):
            return
        default = _DEFAULT_SIGNALS.get(self._task["Driver"], "SIGINT")
        process.signal(_signal_number(self._task["KillSignal"] or default))
        if not process.ended(timeout / 1e9):
            process.signal(signal.SIGKILL)


def _signal_number(name: str) -> int:
    known = getattr(signal, name.upper(), None)
    if not isinstance(known, signal.Signals):
        raise ValueError(f"Signal {name} is not supported")
    return int(known)
