"""The plan for one task group, and the small decisions that lead to it.

The reconciler makes a plan, and the scheduler or a dry run reads it; so it is a value.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any

from mlservice.jobspec.durations import HOUR
from nomad_double.objects import Allocation, GroupRollout

Json = dict[str, Any]
NOT_NEEDED = "alloc not needed due to job update"
UPDATED = "alloc is being updated due to job update"
RESCHEDULED = "alloc was rescheduled because it failed"
LOST = "alloc is lost since its node is down"
_CHANGED_IN_PLACE = (
    "KillTimeout", "KillSignal", "RestartPolicy", "Services", "Leader", "ShutdownDelay",
    "Constraints", "ScalingPolicies", "Actions", "DispatchPayload",
    "Meta", "LogConfig",  # _task_essentials compares the effect of these two
)  # fmt: skip


@dataclass(frozen=True)
class Placement:
    """One allocation to make; ``job`` is the version of the job to make it from."""

    index: int
    job: Json
    previous: Allocation | None = None
    canary: bool = False
    reschedules: tuple[Json, ...] = ()


@dataclass
class GroupPlan:
    """What to do with one group."""

    group: str
    place: list[Placement] = field(default_factory=list)
    stop: list[tuple[Allocation, str]] = field(default_factory=list)
    in_place: list[Allocation] = field(default_factory=list)
    later: list[tuple[Allocation, int]] = field(default_factory=list)
    rollout: GroupRollout | None = None
    destructive: int = 0
    ignored: int = 0

    def updates(self) -> Json:
        """Return the plan's DesiredUpdates."""
        canaries = sum(placement.canary for placement in self.place)
        replaced = min(self.destructive, sum(reason == UPDATED for _, reason in self.stop))
        fresh = len(self.place) - canaries - replaced
        return {
            "Ignore": self.ignored, "Place": max(0, fresh), "Migrate": 0,
            "Stop": sum(reason != UPDATED for _, reason in self.stop),
            "InPlaceUpdate": len(self.in_place), "DestructiveUpdate": replaced, "Canary": canaries,
            "Preemptions": 0, "Disconnect": 0, "Reconnect": 0,
            "RescheduleNow": sum(bool(p.reschedules) for p in self.place),
            "RescheduleLater": len(self.later),
        }  # fmt: skip


def replace_failed(plan: GroupPlan, job: Json, group: Json, alloc: Allocation) -> None:
    """Reschedule now, later or never, by the group's policy; replace lost ones at once."""
    if alloc.next:
        plan.ignored += 1
        return
    if alloc.client_status == "lost":
        plan.stop.append((alloc, LOST))
        plan.place.append(Placement(alloc.number, job, alloc, alloc.canary))
        return
    when = reschedule_time(alloc, group["ReschedulePolicy"])
    if when is None:
        plan.ignored += 1
    elif when <= time.time_ns():
        event = {
            "RescheduleTime": time.time_ns(), "PrevAllocID": alloc.id, "PrevNodeID": alloc.node_id,
            "Delay": _delay(alloc, group["ReschedulePolicy"]),
        }  # fmt: skip
        plan.stop.append((alloc, RESCHEDULED))
        plan.place.append(
            Placement(alloc.number, job, alloc, alloc.canary, (*alloc.reschedules, event))
        )
    elif alloc.followup_eval:
        plan.ignored += 1  # an evaluation already waits for it
    else:
        plan.later.append((alloc, when))


def reschedule_time(alloc: Allocation, policy: Json) -> int | None:
    """Return when a failed allocation may be replaced; None: never.

    The time is nanoseconds since the epoch.
    """
    if alloc.transition.get("ForceReschedule"):
        return 0
    if not policy["Unlimited"]:
        if not policy["Attempts"]:
            return None
        since = time.time_ns() - policy["Interval"]
        recent = [e for e in alloc.reschedules if e["RescheduleTime"] > since]
        if len(recent) >= policy["Attempts"]:
            return None
    ended = max((s.finished_at for s in (alloc.task_states or {}).values()), default=0)
    return (ended or alloc.modify_time) + _delay(alloc, policy)


def _delay(alloc: Allocation, policy: Json) -> int:
    base, count = int(policy["Delay"]), len(alloc.reschedules)
    if policy["DelayFunction"] == "exponential":
        base *= 2 ** min(count, 30)
    elif policy["DelayFunction"] == "fibonacci":
        one, two = base, base
        for _ in range(count):
            one, two = two, one + two
        base = one
    return min(base, policy["MaxDelay"] or HOUR) if policy["DelayFunction"] != "constant" else base


def older(alloc: Allocation, job: Json) -> bool:
    """Whether the allocation was made from another version of the job."""
    made = alloc.job
    return bool(made["Version"] != job["Version"] or made["CreateIndex"] != job["CreateIndex"])


def destructive(old: Json, new: Json, group: str) -> bool:
    """Whether the change needs a new allocation. If not, it is made in place."""
    if old is new:
        return False
    before, after = _group(old, group), _group(new, group)
    if before is None or after is None:
        return True
    return bool(_task_essentials(old, before) != _task_essentials(new, after))


def _task_essentials(job: Json, group: Json) -> Any:
    """Return everything that needs a new allocation if it changes."""
    return (
        group["EphemeralDisk"], group["Networks"], group["Volumes"], group["Consul"],
        job["Affinities"], group["Affinities"], job["Spreads"], group["Spreads"],
        {
            task["Name"]: (
                {key: value for key, value in task.items() if key not in _CHANGED_IN_PLACE},
                {**(job["Meta"] or {}), **(group["Meta"] or {}), **(task["Meta"] or {})},
                bool(task["LogConfig"]["Disabled"]),
            )
            for task in group["Tasks"] or []
        },
    )  # fmt: skip


def _group(job: Json, name: str) -> Json | None:
    return next((group for group in job["TaskGroups"] or [] if group["Name"] == name), None)
