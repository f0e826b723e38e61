"""One process of the service, which is started again if it ends."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from mlservice.errors import MlserviceError
from mlservice.shutdown import SHUTDOWN

_QUICK_SECONDS = 10.0
_MAX_QUICK_EXITS = 3
_LAST_LINES = 5


@dataclass(frozen=True)
class Command:
    """A process to run: ``mlservice ARGUMENTS``, with additions to its environment.

    The gateway and the worker wait until it listens on its ``address`` (a URL or host:port), if it
    has one.
    """

    arguments: tuple[str, ...]
    environ: Mapping[str, str] = field(default_factory=dict)
    address: str = ""


class ServiceProcess:
    """A process that can be started and stopped more than once; ``handle`` is the last one."""

    def __init__(
        self,
        name: str,
        command: Command,
        folder: Path,
        environ: Mapping[str, str],
        log: Path | None,
    ) -> None:
        """Run ``command`` in ``folder``; its output is added to the file ``log``, or to ours."""
        self.name = name
        self.command = command
        self.handle: subprocess.Popen[bytes] | None = None
        self._folder = folder
        self._environ = {**environ, **command.environ}
        self._log = log
        self._started = 0.0
        self._quick_exits = 0

    @property
    def exit_code(self) -> int | None:
        """How the process ended; None while it runs or if it was never started."""
        return self.handle.poll() if self.handle else None

    def start(self) -> None:
        """Start the process, which may have run before."""
        with ExitStack() as files:
            output = None
            if self._log:
                self._log.parent.mkdir(parents=True, exist_ok=True)
                output = files.enter_context(self._log.open("ab"))
            self._started = time.monotonic()
            self.handle = subprocess.Popen(
                [sys.executable, "-m", "mlservice", *self.command.arguments],
                cwd=self._folder,
                env=self._environ,
                stdout=output,
                stderr=output,
            )

    def stop(self) -> None:
        """Stop the process; kill it if it does not end in time."""
        if self.handle is None:
            return
        self.handle.terminate()
        try:
            self.handle.wait(SHUTDOWN.kill)
        except subprocess.TimeoutExpired:
            self.handle.kill()
            self.handle.wait()

    def restart_if_ended(self) -> str:
        """Start the process again if it has ended; returns how it ended, or nothing.

        Raises ``MlserviceError`` if it ends soon after its start for the third time in a row.
        """
        if self.exit_code is None:
            return ""
        ended = self.describe_exit()
        is_quick = time.monotonic() - self._started < _QUICK_SECONDS
        self._quick_exits = self._quick_exits + 1 if is_quick else 0
        if self._quick_exits >= _MAX_QUICK_EXITS:
            raise MlserviceError(f"{ended} again and again{self.last_lines()}")
        self.start()
        return ended

    def describe_exit(self) -> str:
        """Return one line on how the process ended."""
        return f"the {self.name} ended with {self.exit_code}"

    def last_lines(self) -> str:
        """Return the place of the log and its end, to complete a message about a failure."""
        if not self._log or not self._log.exists():
            return ": see above"
        lines = self._log.read_text("utf-8", errors="replace").strip().splitlines()
        shown = "\n".join(f"    | {line}" for line in lines[-_LAST_LINES:])
        return f"; its log is {self._log}\n{shown}"
