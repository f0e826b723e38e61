"""Decides whether a task that ended starts again on its node.

That is the group's restart policy. It is not rescheduling, which makes a new allocation: see
``group_plan``.
"""

from __future__ import annotations

import random
import time
from dataclasses import dataclass
from typing import Any

from mlservice.jobspec.durations import format_duration

Json = dict[str, Any]
WITHIN_POLICY = "Restart within policy"
_JITTER = 0.25


@dataclass(frozen=True)
class Decision:
    """Start again after ``delay`` ns, or not; ``fails``: the task has failed."""

    again: bool
    reason: str
    delay: int = 0
    fails: bool = False


class RestartTracker:
    """Counts the failures within the policy's interval."""

    def __init__(self, policy: Json, *, on_success: bool) -> None:
        """Keep the policy; ``on_success``: a service, which always starts again."""
        self._policy = policy
        self._on_success = on_success
        self._count = 0
        self._since = time.monotonic_ns()

    def after_exit(self, *, success: bool) -> Decision:
        """Decide after the end of the process."""
        if success and not self._on_success:
            return Decision(False, "Restart unnecessary as task terminated successfully")
        if not self._policy["Attempts"]:
            return Decision(False, "Policy allows no restarts", fails=True)
        return self._count_failure()

    def after_failed_start(self, *, recoverable: bool) -> Decision:
        """Decide after a start that failed."""
        if not recoverable:
            return Decision(False, "Error was unrecoverable", fails=True)
        return self.after_exit(success=False)

    def _count_failure(self) -> Decision:
        interval, attempts = self._policy["Interval"], self._policy["Attempts"]
        now = time.monotonic_ns()
        if now - self._since > interval:
            self._count, self._since = 0, now
        self._count += 1
        if self._count <= attempts:
            return Decision(True, WITHIN_POLICY, self._with_jitter(self._policy["Delay"]))
        if self._policy["Mode"] == "fail":
            reason = (
                f"Exceeded allowed attempts {attempts} in interval {format_duration(interval)} and "
                'mode is "fail"'
            )
            return Decision(False, reason, fails=True)
        left = max(0, interval - (now - self._since))
        return Decision(
            True, "Exceeded allowed attempts, applying a delay", self._with_jitter(left)
        )

    def _with_jitter(self, delay: int) -> int:
        return delay + int(random.random() * _JITTER * delay)  # noqa: S311  # no secret
