"""Finds, measures and ends all processes of a contender.

Some servers put their children into sessions of their own. So Linux's /proc is searched for the
processes of the leader's session and for all their descendants.
"""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Process:
    """A process; the start time is needed because the system may use its number again."""

    pid: int
    started: int


def family(leader: int) -> set[Process]:
    """Return the processes of the leader's session and all their descendants."""
    found = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit() and (fields := _stat(int(folder.name))):
            found[Process(int(folder.name), int(fields[19]))] = (int(fields[1]), int(fields[3]))
    members = {process for process, (_, session) in found.items() if session == leader}
    while True:
        pids = {process.pid for process in members}
        more = {process for process, (parent, _) in found.items() if parent in pids} - members
        if not more:
            return members
        members |= more


def kill(processes: Iterable[Process]) -> None:
    """Kill the processes that still run."""
    for process in processes:
        fields = _stat(process.pid)
        if fields and int(fields[19]) == process.started:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process.pid, signal.SIGKILL)


def usage(process: Process) -> tuple[float, str]:
    """Return the processor seconds so far, and the command line."""
    fields = _stat(process.pid)
    if not fields:
        return 0.0, ""
    with contextlib.suppress(OSError):
        line = Path(f"/proc/{process.pid}/cmdline").read_text("utf-8", errors="replace")
        return (int(fields[11]) + int(fields[12])) / _TICKS, line.replace("\0", " ")
    return 0.0, ""


def _stat(pid: int) -> list[str]:
    """Return the fields after the name (which may hold blanks); none if the process has ended."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text("utf-8", errors="replace")
    except OSError:
        return []
    return text.rpartition(")")[2].split()
