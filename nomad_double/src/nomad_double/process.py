"""Processes of tasks: each in a group of its own, watched for memory, killed as a whole.

A task often starts children. Without a group they would outlive the task, and the memory that they
use would not count.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

_PAGE = os.sysconf("SC_PAGE_SIZE")
_LOOK_SECONDS = 0.1
_GROUP_FIELD, _RSS_FIELD = 2, 21  # in /proc/PID/stat, counted after the command's name


class Process:
    """A task's process group."""

    def __init__(
        self,
        command: Sequence[str],
        folder: Path,
        environment: Mapping[str, str],
        logs: Sequence[Path],
    ) -> None:
        """Start the command and append its output to the logs; raise ``OSError``."""
        out, err = (path.open("ab") for path in logs)
        with out, err:
            self._popen = subprocess.Popen(
                list(command), cwd=folder, env=dict(environment), stdin=subprocess.DEVNULL,
                stdout=out, stderr=err, start_new_session=True,
            )  # fmt: skip
        self.group = self._popen.pid
        self.out_of_memory = False

    def wait(self) -> int:
        """Wait for the end; return the exit code, or the signal as a negative number."""
        code = self._popen.wait()
        self.signal(signal.SIGKILL)  # its children end with it
        return code

    def ended(self, seconds: float) -> bool:
        """Whether the process ends within this time."""
        try:
            self._popen.wait(seconds)
        except subprocess.TimeoutExpired:
            return False
        return True

    def signal(self, number: int) -> None:
        """Send a signal to the whole group, if any of it is left."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.group, number)


class MemoryWatch:
    """Kills process groups that use too much memory. It looks several times a second."""

    def __init__(self) -> None:
        """Watch nothing yet; the thread runs only while there is something to watch."""
        self._lock = threading.Condition()
        self._limits: dict[int, tuple[int, Callable[[], None]]] = {}
        self._closed = False
        self._thread: threading.Thread | None = None

    def add(self, group: int, limit_mb: int, over: Callable[[], None]) -> None:
        """Call ``over`` when the group's resident memory exceeds the limit."""
        with self._lock:
            self._limits[group] = limit_mb * 1024 * 1024, over
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, daemon=True, name="nomad-memory")
                self._thread.start()
            self._lock.notify()

    def remove(self, group: int) -> None:
        """Stop watching a group."""
        with self._lock:
            self._limits.pop(group, None)

    def close(self) -> None:
        """End the thread."""
        with self._lock:
            self._closed = True
            self._lock.notify()

    def _run(self) -> None:
        while True:
            with self._lock:
                self._lock.wait(_LOOK_SECONDS if self._limits else None)
                if self._closed:
                    return
                limits = dict(self._limits)
            used = _resident(limits) if limits else {}
            for group, bytes_used in used.items():
                limit, over = limits[group]
                if bytes_used > limit:
                    self.remove(group)
                    over()


def _resident(groups: Mapping[int, object]) -> dict[int, int]:
    """Return the resident memory of each process group, in bytes."""
    found = dict.fromkeys(groups, 0)
    for name in os.listdir("/proc"):  # noqa: PTH208  # four times as fast as Path, ten times a second
        if not name.isdigit():
            continue
        try:
            with open(f"/proc/{name}/stat", "rb") as file:  # noqa: PTH123  # as above
                fields = file.read().rpartition(b")")[2].split()
        except OSError:
            continue
        group = int(fields[_GROUP_FIELD])
        if group in found:
            found[group] += int(fields[_RSS_FIELD]) * _PAGE
    return found
