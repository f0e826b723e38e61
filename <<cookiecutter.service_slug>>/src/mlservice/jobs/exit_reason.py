"""Reads from a dead child's allocations how it ended; its status says only that it did.

Nomad's flag for a kill for memory is missing with raw_exec and, where a child process was the
one that was killed, with cgroup v2; so exit code 137 counts too, which is also what a job gives
itself that finds its cgroup's counter raised.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from mlservice.cluster import Nomad
from mlservice.jobs.memory import OUT_OF_MEMORY_CODE

_KILLED = "9"
_LOG_BYTES = 4000
_LOG_LINES = 8
_TASK = "job"
Reason = Literal["memory", "failed", "stopped", "gone", "lost"]


@dataclass(frozen=True)
class Ending:
    """How a child ended: the reason, its exit code if it had one, and words for a person."""

    reason: Reason
    code: int | None
    words: str


def read_ending(nomad: Nomad, child: str) -> Ending:
    """How ``child`` ended, which left no artifact."""
    job = nomad.job(child)
    if job is None:
        words = "was garbage-collected or purged before anybody saw how it ended"
        return Ending("gone", None, words)
    allocations = nomad.allocations(child)
    if job.get("Stop"):
        return Ending("stopped", None, "was stopped by somebody" + _log(nomad, allocations))
    if not allocations:
        return Ending("lost", None, "ended without an allocation")
    last = allocations[-1]
    state = (last.get("TaskStates") or {}).get(_TASK) or {}
    events = state.get("Events") or []
    details = _last(events, "Terminated")
    if details is None:
        why = next((event.get("DisplayMessage") for event in reversed(events)), None)
        words = f"did not run ({last['ClientStatus']}): {why or last.get('ClientDescription')}"
        return Ending("lost" if last["ClientStatus"] == "lost" else "failed", None, words)
    code = int(details.get("exit_code") or 0)
    if (
        details.get("oom_killed") == "true"
        or code == OUT_OF_MEMORY_CODE
        or details.get("signal") == _KILLED
    ):
        return Ending("memory", code, "was killed for memory")
    return Ending("failed", code, f"failed with exit code {code}" + _log(nomad, allocations))


def _last(events: Sequence[Mapping[str, Any]], kind: str) -> Mapping[str, str] | None:
    for event in reversed(events):
        if event.get("Type") == kind:
            return event.get("Details") or {}
    return None


def _log(nomad: Nomad, allocations: Sequence[Mapping[str, Any]]) -> str:
    """The end of the last allocation's log, or why there is none."""
    if not allocations:
        return ""
    allocation = allocations[-1]["ID"]
    for kind in ("stderr", "stdout"):
        try:
            text = nomad.log(allocation, _TASK, kind, _LOG_BYTES).strip()
        except Exception as error:  # noqa: BLE001  # the log is an extra; its lack must not hide the failure
            return f"; its log cannot be read: {error}"
        if text:
            lines = "\n".join(f"    | {line}" for line in text.splitlines()[-_LOG_LINES:])
            return f"; its log (nomad alloc logs {allocation[:8]}) ends with\n{lines}"
    return f"; its log (allocation {allocation[:8]}) is empty"
