"""Tells whether this process ran out of memory, where nobody else will.

With cgroup v2 a kill of a child process alone is not reported by Docker: the job then fails for
another reason, and the kernel's counter is all that knows why (memory.events of cgroup v2,
https://docs.kernel.org/admin-guide/cgroup-v2.html).
"""

from __future__ import annotations

import sys
from pathlib import Path

OUT_OF_MEMORY_CODE = 137  # what a process ends with that was killed for memory
_EVENTS = Path("/sys/fs/cgroup/memory.events")


def kills_for_memory(events: Path = _EVENTS) -> int:
    """How many processes of this cgroup the kernel has killed for memory; 0 where it cannot say."""
    try:
        counts = dict(line.split() for line in events.read_text("ascii").splitlines())
        return int(counts.get("oom_kill", 0))
    except (OSError, ValueError):
        return 0


def out_of_memory(kills_before: int, events: Path = _EVENTS) -> bool:
    """Whether the exception being handled is for memory, or a kill has been added since."""
    return isinstance(sys.exception(), MemoryError) or kills_for_memory(events) > kills_before
