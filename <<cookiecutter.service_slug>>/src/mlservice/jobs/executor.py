"""Runs jobs in other processes: here in a subprocess with the container's own command line.

A subprocess keeps the coordinator's memory small, and a crash of the job does not crash the
pipeline. The command is that of the container, so what works here works there.
"""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

from mlservice.errors import JobError
from mlservice.jobs.call import JobCall
from mlservice.jobs.job import Job
from mlservice.shutdown import SHUTDOWN

_TAIL_LINES = 8


class Executor(Protocol):
    """Runs a job's call until its artifact is complete."""

    def run(self, job: Job, call: JobCall) -> None:
        """Return when the job has succeeded; raises ``JobError`` with the end of its log."""

    def close(self) -> None:
        """Cancel the run: start no further jobs, and end the running ones or leave them running."""


class LocalExecutor:
    """Runs each call in a subprocess on this machine, with a log file of its own."""

    def __init__(self, logs: Path, folder: Path, environ: Mapping[str, str]) -> None:
        """Keep the folder for logs, the service's folder, and the environment of the jobs."""
        self._logs = logs
        self._folder = folder
        self._environ = dict(environ)
        self._running: set[subprocess.Popen[bytes]] = set()
        self._lock = threading.Lock()
        self._closed = False

    def run(self, job: Job, call: JobCall) -> None:
        """See ``Executor``; ``JobError`` names the log file and shows its end."""
        self._logs.mkdir(parents=True, exist_ok=True)
        stamp = time.strftime("%Y%m%dT%H%M%S", time.gmtime())
        name = re.sub(r"[^\w.=-]+", "_", call.output)[-80:]
        unique = hashlib.sha256(call.output.encode()).hexdigest()[:8]
        log = self._logs / f"{stamp}-{name}-{unique}-{os.getpid()}.log"
        command = [sys.executable, "-m", "mlservice", "job", job.name, "--call", call.encode()]
        with log.open("wb") as file, self._lock:
            if self._closed:
                raise JobError(f"job '{job.name}' is not started: the run was cancelled")
            process = subprocess.Popen(
                command, stdout=file, stderr=subprocess.STDOUT, cwd=self._folder, env=self._environ
            )
            self._running.add(process)
        code = process.wait()
        self._running.discard(process)
        if code:
            raise JobError(f"job '{job.name}' {_described(code)}; its log is {log}\n{_tail(log)}")

    def close(self) -> None:
        """See ``Executor``; a job that ignores SIGTERM is killed."""
        with self._lock:
            self._closed = True
            running = list(self._running)
        for process in running:
            process.terminate()
        end = time.monotonic() + SHUTDOWN.local_jobs
        for process in running:
            try:
                process.wait(max(0.0, end - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _described(code: int) -> str:
    if code == -9:
        return "was killed (signal 9: often for memory; try a larger size in memory_mb)"
    return f"was ended by signal {-code}" if code < 0 else f"failed with exit code {code}"


def _tail(log: Path) -> str:
    with log.open(errors="replace") as file:
        lines = deque(file, maxlen=_TAIL_LINES)
    return "".join(f"    | {line.rstrip()}\n" for line in lines).rstrip()
