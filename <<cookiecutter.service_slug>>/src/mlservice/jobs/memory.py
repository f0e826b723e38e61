"""Detects that this process ran out of memory.

With cgroup v2, Docker does not report that only a child process was killed. The job then fails
for another reason, and only the kernel's counter shows the kill (memory.events of cgroup v2,
https://docs.kernel.org/admin-guide/cgroup-v2.html).
"""

from __future__ import annotations

import sys
from pathlib import Path

OUT_OF_MEMORY_CODE = 137  # the exit code of a process that was killed for memory
_EVENTS = Path("/sys/fs/cgroup/memory.events")


def kills_for_memory(events: Path = _EVENTS) -> int:
    """Return how many processes of this cgroup were killed for memory; 0 if that is unknown."""
    try:
        counts = dict(line.split() for line in events.read_text("ascii").splitlines())
        return int(counts.get("oom_kill", 0))
    except (OSError, ValueError):
        return 0


def out_of_memory(kills_before: int, events: Path = _EVENTS) -> bool:
    """Whether a lack of memory is the cause of the exception that is being handled.

    ``kills_before`` is the count of kills when the work began.
    """
    return isinstance(sys.exception(), MemoryError) or kills_for_memory(events) > kills_before
