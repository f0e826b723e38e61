"""Compares a task group's allocations with what the job asks for.

The result says what to stop, place, update or leave. This is a small form of Nomad's reconciler. It
reads values and changes nothing, so a dry run uses it as well as the scheduler.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

from nomad_double.group_plan import (
    NOT_NEEDED,
    UPDATED,
    GroupPlan,
    Placement,
    destructive,
    older,
    replace_failed,
)
from nomad_double.objects import Allocation, Deployment, GroupRollout

Json = dict[str, Any]


def stop_all(name: str, allocs: list[Allocation]) -> GroupPlan:
    """Return the plan of a group that was removed, or whose job is stopped."""
    return GroupPlan(name, stop=[(alloc, NOT_NEEDED) for alloc in allocs if not alloc.terminal])


def reconcile(
    job: Json, group: Json, allocs: list[Allocation], deployment: Deployment | None
) -> GroupPlan:
    """Return the plan for one group of a job that is not stopped.

    ``deployment`` is the job's latest one if it belongs to this version of the job.
    """
    if job["Type"] in ("batch", "sysbatch"):
        return _plan_batch(job, group, allocs)
    return _Service(job, group, allocs, deployment).plan()


def _plan_batch(job: Json, group: Json, allocs: list[Allocation]) -> GroupPlan:
    plan = GroupPlan(group["Name"])
    newest: dict[int, Allocation] = {}
    for each in allocs:
        # A terminal allocation of an older version says nothing about this one.
        if not (each.terminal and older(each, job)):
            newest[each.number] = each
    for number in range(group["Count"]):
        alloc = newest.pop(number) if number in newest else None
        if alloc is None:
            plan.place.append(Placement(number, job))
        elif alloc.client_status in ("failed", "lost") and alloc.desired_status == "run":
            replace_failed(plan, job, group, alloc)
        elif alloc.terminal:
            if alloc.client_status != "complete" and alloc.desired_status == "stop":
                plan.place.append(Placement(number, job, alloc))
            else:
                plan.ignored += 1
        elif older(alloc, job):
            _update(plan, job, alloc)
        else:
            plan.ignored += 1
    plan.stop += [(alloc, NOT_NEEDED) for alloc in newest.values() if not alloc.terminal]
    return plan


def _update(plan: GroupPlan, job: Json, alloc: Allocation) -> None:
    if destructive(alloc.job, job, plan.group):
        plan.destructive += 1
        plan.stop.append((alloc, UPDATED))
        plan.place.append(Placement(alloc.number, job, alloc))
    else:
        plan.in_place.append(alloc)


class _Service:
    """One group of a service, with its deployment."""

    def __init__(
        self, job: Json, group: Json, allocs: list[Allocation], deployment: Deployment | None
    ) -> None:
        self._job, self._group, self._allocs = job, group, allocs
        self._plan = GroupPlan(group["Name"])
        self._deployment = deployment
        self._rollout = deployment.groups.get(group["Name"]) if deployment else None
        self._failed = deployment is not None and deployment.status == "failed"
        self._halted = deployment is not None and deployment.status in ("failed", "paused")

    def plan(self) -> GroupPlan:
        live = [alloc for alloc in self._allocs if not alloc.terminal]
        canaries = [alloc for alloc in live if alloc.canary]
        mine = [a for a in canaries if self._active and a.id in self._canary_ids()]
        others = [alloc for alloc in canaries if alloc not in mine]
        self._plan.stop += [(alloc, NOT_NEEDED) for alloc in others]
        base = [alloc for alloc in live if alloc not in canaries]
        base = self._without_surplus(base)
        stale = [alloc for alloc in base if older(alloc, self._job)]
        destructive_ones = [a for a in stale if destructive(a.job, self._job, self._group["Name"])]
        self._start_rollout(stale, destructive_ones)
        if not self._has_open_canaries() or not destructive_ones:
            self._plan.in_place += [alloc for alloc in stale if alloc not in destructive_ones]
        if self._has_open_canaries():
            self._place_canaries(mine)
        self._place_missing(base, mine)
        if not self._has_open_canaries() and not self._halted:
            self._roll(destructive_ones)
        busy = [a for a, _ in self._plan.stop] + self._plan.in_place
        self._plan.ignored = len([alloc for alloc in live if alloc not in busy])
        return self._plan

    @property
    def _active(self) -> bool:
        return self._deployment is not None and self._deployment.active

    def _canary_ids(self) -> tuple[str, ...]:
        return self._rollout.canaries if self._rollout else ()

    def _without_surplus(self, base: list[Allocation]) -> list[Allocation]:
        """Keep at most ``count``, one for each number.

        The newest version stays, and the highest numbers are stopped.
        """
        kept: dict[int, Allocation] = {}
        for alloc in sorted(base, key=lambda a: (a.job["Version"], a.create_index), reverse=True):
            if alloc.number in kept or alloc.number >= self._group["Count"]:
                self._plan.stop.append((alloc, NOT_NEEDED))
            else:
                kept[alloc.number] = alloc
        return list(kept.values())

    def _start_rollout(self, stale: list[Allocation], destructive_ones: list[Allocation]) -> None:
        """Make the group's part in a new deployment, if it needs one."""
        update, count = self._group["Update"], self._group["Count"]
        if self._deployment is not None or not update or not update["MaxParallel"] or not count:
            return
        settled = any(not older(alloc, self._job) and not alloc.canary for alloc in self._allocs)
        if settled and not stale:
            return
        self._plan.rollout = self._rollout = GroupRollout(
            update["AutoRevert"], update["AutoPromote"], update["ProgressDeadline"], count,
            min(update["Canary"], count) if destructive_ones and update["Canary"] else 0,
        )  # fmt: skip

    def _has_open_canaries(self) -> bool:
        if self._rollout is None:
            return False
        return bool(self._rollout.desired_canaries and not self._rollout.promoted)

    def _place_canaries(self, mine: list[Allocation]) -> None:
        rollout = self._rollout
        if rollout is None or self._halted:
            return
        taken = {alloc.number for alloc in mine}
        waiting = [
            a for a in self._allocs
            if a.id in rollout.canaries and a.client_status in ("failed", "lost") and not a.next
            and a.desired_status == "run"
        ]  # fmt: skip
        for alloc in waiting:
            taken.add(alloc.number)
            replace_failed(self._plan, self._job, self._group, alloc)
        free = (number for number in range(rollout.desired_canaries) if number not in taken)
        for number in free:
            self._plan.place.append(Placement(number, self._job, canary=True))

    def _place_missing(self, base: list[Allocation], mine: list[Allocation]) -> None:
        """Place what is missing. While canaries run, the old version is placed."""
        have = {alloc.number for alloc in base}
        canarying = self._has_open_canaries()
        if not canarying:
            have |= {alloc.number for alloc in mine}
        job = self._base_job(base) if canarying or self._failed else self._job
        for alloc in self._failures():
            if alloc.number not in have and alloc.number < self._group["Count"]:
                have.add(alloc.number)
                of_failed = self._failed and alloc.deployment_id == self._deployment_id
                if not of_failed:
                    replace_failed(self._plan, job, self._group, alloc)
        if self._halted and base:
            return
        if self._failed and not base and self._rollout and self._rollout.desired_total:
            return
        for number in range(self._group["Count"]):
            if number not in have:
                self._plan.place.append(Placement(number, job))

    @property
    def _deployment_id(self) -> str:
        return self._deployment.id if self._deployment else ""

    def _failures(self) -> Iterator[Allocation]:
        """Yield the newest failed allocation of each number, if it was not replaced.

        Canaries are left out.
        """
        seen: set[int] = set()
        for alloc in reversed(self._allocs):
            if alloc.number in seen or alloc.canary:
                continue
            seen.add(alloc.number)
            if alloc.client_status in ("failed", "lost") and alloc.desired_status == "run":
                yield alloc

    def _base_job(self, base: list[Allocation]) -> Json:
        versions = Counter(alloc.job["Version"] for alloc in base if older(alloc, self._job))
        if not versions:
            return self._job
        version = versions.most_common(1)[0][0]
        return next(alloc.job for alloc in base if alloc.job["Version"] == version)

    def _roll(self, destructive_ones: list[Allocation]) -> None:
        """Replace ``max_parallel`` at a time, and none while one is unhealthy."""
        update = self._group["Update"]
        limit = len(destructive_ones)
        if update and update["MaxParallel"]:
            mine = [
                a for a in self._allocs if a.deployment_id == self._deployment_id and not a.terminal
            ]
            if any(alloc.healthy is False for alloc in mine):
                limit = 0
            unsettled = [alloc for alloc in mine if not alloc.healthy]
            new = [p for p in self._plan.place if not p.canary and p.job is self._job]
            limit = min(limit, max(0, update["MaxParallel"] - len(unsettled) - len(new)))
        for alloc in sorted(destructive_ones, key=lambda a: a.number)[:limit]:
            self._plan.destructive += 1
            self._plan.stop.append((alloc, UPDATED))
            self._plan.place.append(Placement(alloc.number, self._job, alloc))
