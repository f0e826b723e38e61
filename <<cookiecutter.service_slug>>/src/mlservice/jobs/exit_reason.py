"""Reads from a dead child's allocations why it ended. Nomad's status only says that it did.

Nomad does not report a kill for memory with raw_exec, nor with cgroup v2 if only a child process
was killed. So exit code 137 counts as one too. A job exits with that code itself if its cgroup's
counter of such kills has grown.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from mlservice.cluster import Allocation, Nomad, TaskState, Termination
from mlservice.jobs.memory import OUT_OF_MEMORY_CODE

_KILLED = 9
_LOG_BYTES = 4000
_LOG_LINES = 8
_TASK = "job"
ExitKind = Literal["memory", "failed", "stopped", "gone", "lost"]


@dataclass(frozen=True)
class ExitReason:
    """Why a child ended: the kind, the exit code if there was one, and a message for people."""

    kind: ExitKind
    code: int | None
    message: str


def read_exit_reason(nomad: Nomad, child: str) -> ExitReason:
    """Return why ``child`` ended without an artifact; raises ``ClusterError``."""
    job = nomad.job(child)
    if job is None:
        message = "was garbage-collected or purged before its exit code could be read"
        return ExitReason("gone", None, message)
    allocations = nomad.allocations(child)
    if job.stopped:
        return ExitReason("stopped", None, "was stopped by an operator" + _log(nomad, allocations))
    if not allocations:
        return ExitReason("lost", None, "ended without an allocation")
    last = allocations[-1]
    state = last.tasks.get(_TASK, TaskState())
    if state.termination is None:
        why = state.last_message or last.description
        message = f"did not run ({last.status}): {why}"
        return ExitReason("lost" if last.status == "lost" else "failed", None, message)
    code = state.termination.exit_code
    if _ran_out_of_memory(state.termination):
        return ExitReason("memory", code, "was killed for memory")
    return ExitReason("failed", code, f"failed with exit code {code}" + _log(nomad, allocations))


def _ran_out_of_memory(end: Termination) -> bool:
    return end.out_of_memory or end.exit_code == OUT_OF_MEMORY_CODE or end.signal == _KILLED


def _log(nomad: Nomad, allocations: Sequence[Allocation]) -> str:
    """The end of the last allocation's log, or why it cannot be shown."""
    if not allocations:
        return ""
    allocation = allocations[-1].id
    for kind in ("stderr", "stdout"):
        try:
            text = nomad.log(allocation, _TASK, kind, _LOG_BYTES).strip()
        except Exception as error:  # noqa: BLE001  # the log is an extra: its lack must not hide the failure
            return f"; its log cannot be read: {error}"
        if text:
            lines = "\n".join(f"    | {line}" for line in text.splitlines()[-_LOG_LINES:])
            return f"; its log (nomad alloc logs {allocation[:8]}) ends with\n{lines}"
    return f"; its log (allocation {allocation[:8]}) is empty"
