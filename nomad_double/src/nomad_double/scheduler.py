"""Processes evaluations: reconciles a job's groups and places what fits on the node.

It works behind the request, as Nomad's does. Registering a job is answered before anything is
placed, and a caller must wait for the evaluation.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from nomad_double.group_plan import GroupPlan, Placement
from nomad_double.node import Node, needs, placed_metric
from nomad_double.objects import Allocation, Deployment, Evaluation, GroupRollout
from nomad_double.reconcile import reconcile, stop_all
from nomad_double.state import Key, State
from nomad_double.timers import Timers

Json = dict[str, Any]
_BLOCKED = "created to place remaining allocations"
_NEWER = "Cancelled due to newer version of job"
_STOPPED = "Cancelled because job is stopped"


class Scheduler:
    """One worker; ``start`` is called with new allocations, ``stop`` with those to stop."""

    def __init__(
        self,
        state: State,
        node: Node,
        timers: Timers,
        start: Callable[[Allocation], None],
        stop: Callable[[Allocation], None],
        update: Callable[[Allocation], None],
    ) -> None:
        """Work on ``state``; ``timers`` calls it."""
        self._state = state
        self._node = node
        self._timers = timers
        self._start = start
        self._stop = stop
        self._update = update
        self.on_deployment: Callable[[Deployment], None] = lambda _: None
        self._blocked: dict[Key, tuple[str, list[dict[str, int]]]] = {}

    def evaluate(
        self, job: Json, reason: str, *, deployment: str = "", after: int = 0, previous: str = ""
    ) -> Evaluation:
        """Make an evaluation of the job, inside a write.

        It is processed soon, or at ``after`` (ns since the epoch).
        """
        evaluation = self._state.put_eval(
            Evaluation(
                str(uuid.uuid4()), job["Namespace"], job["ID"], job["Type"], job["Priority"],
                reason, job_modify_index=job["JobModifyIndex"], deployment_id=deployment,
                wait_until=after, previous=previous,
            )
        )  # fmt: skip
        self._timers.at(after or time.time_ns(), lambda: self.process(evaluation.id))
        return evaluation

    def plan(self, job: Json) -> tuple[dict[str, GroupPlan], Json | None]:
        """Return what registering ``job`` would do to each group, and what does not fit."""
        with self._state.lock:
            plans = self._plans(job, (job["Namespace"], job["ID"]))
            failed = {}
            for name, plan in plans.items():
                group = _group(job, name)
                metric = self._node.misfit(job, group) if plan.place and group else None
                if metric:
                    failed[name] = {**metric, "CoalescedFailures": len(plan.place) - 1}
            return plans, failed or None

    def process(self, name: str) -> None:
        """Process one pending evaluation."""
        with self._state.write():
            evaluation = self._state.evals.get(name)
            if evaluation is None or evaluation.status != "pending":
                return
            key = evaluation.key
            job = self._state.jobs.get(key)
            self._cancel_blocked(key, evaluation)
            if job is None or job["Stop"]:
                self._end_job(key)
                self._state.put_eval(replace(evaluation, status="complete"))
                return
            self._cancel_older_deployment(job, key)
            plans = self._plans(job, key)
            deployment = self._deployment(job, key, plans)
            failed = self._apply(evaluation, plans, deployment)
            self._finish(evaluation, job, plans, failed, deployment)

    def freed(self) -> None:
        """Process blocked evaluations that may fit now, because resources were released.

        The caller holds a write.
        """
        for key, (name, wanted) in list(self._blocked.items()):
            if any(self._node.room_for(need) for need in wanted):
                self._retry(key, name)

    def retry_blocked(self) -> None:
        """Process all blocked evaluations, because the node changed; inside a write."""
        for key, (name, _) in list(self._blocked.items()):
            self._retry(key, name)

    def _retry(self, key: Key, name: str) -> None:
        evaluation = self._state.evals.get(name)
        self._blocked.pop(key, None)
        if evaluation is not None and evaluation.status == "blocked":
            self._state.put_eval(replace(evaluation, status="pending"))
            self._timers.soon(lambda: self.process(name))

    def _plans(self, job: Json, key: Key) -> dict[str, GroupPlan]:
        found: dict[str, list[Allocation]] = {}
        for alloc in self._state.allocations(key):
            if alloc.job["CreateIndex"] == job["CreateIndex"] or not alloc.terminal:
                found.setdefault(alloc.group, []).append(alloc)
        latest = self._state.latest_deployment(key)
        mine = latest if latest and _belongs_to(latest, job) else None
        plans = {
            group["Name"]: reconcile(job, group, found.pop(group["Name"], []), mine)
            for group in job["TaskGroups"] or []
        }
        return plans | {name: stop_all(name, allocs) for name, allocs in found.items()}

    def _end_job(self, key: Key) -> None:
        for alloc in self._state.allocations(key):
            if not alloc.terminal:
                self._stop_alloc(alloc, "alloc not needed due to job update")
        for evaluation in self._state.evaluations(key):
            if evaluation.status == "blocked":
                self._state.put_eval(replace(evaluation, status="canceled"))
        self._blocked.pop(key, None)
        latest = self._state.latest_deployment(key)
        if latest and latest.active:
            self._state.put_deployment(replace(latest, status="cancelled", description=_STOPPED))
        summary = self._state.summaries.get(key)
        for group in summary.groups if summary else ():
            self._state.queue(key, group, 0)

    def _cancel_older_deployment(self, job: Json, key: Key) -> None:
        latest = self._state.latest_deployment(key)
        if latest and latest.active and not _belongs_to(latest, job):
            self._state.put_deployment(replace(latest, status="cancelled", description=_NEWER))

    def _deployment(self, job: Json, key: Key, plans: dict[str, GroupPlan]) -> Deployment | None:
        """Return the job's deployment; make it if a group needs one."""
        latest = self._state.latest_deployment(key)
        if latest and _belongs_to(latest, job):
            return latest
        groups = {name: plan.rollout for name, plan in plans.items() if plan.rollout}
        if not groups:
            return None
        deployment = Deployment(
            str(uuid.uuid4()), *key, job["Version"], job["ModifyIndex"], job["JobModifyIndex"],
            job["CreateIndex"], groups,
        )  # fmt: skip
        return self._state.put_deployment(
            replace(deployment, description=running_description(deployment))
        )

    def _apply(
        self, evaluation: Evaluation, plans: dict[str, GroupPlan], deployment: Deployment | None
    ) -> dict[str, Json]:
        failed: dict[str, Json] = {}
        for name, plan in plans.items():
            for alloc, reason in plan.stop:
                self._stop_alloc(alloc, reason)
            for alloc in plan.in_place:
                self._update_in_place(alloc, evaluation, deployment)
            for placement in plan.place:
                metric = self._place(placement, name, evaluation, deployment)
                if metric and name in failed:
                    failed[name]["CoalescedFailures"] += 1
                elif metric:
                    failed[name] = metric
            for alloc, when in plan.later:
                self._reschedule_later(alloc, when, evaluation)
        return failed

    def _stop_alloc(self, alloc: Allocation, reason: str) -> None:
        current = replace(
            self._state.allocs[alloc.id], desired_status="stop", desired_description=reason
        )
        self._stop(self._state.put_alloc(current))

    def _update_in_place(
        self, alloc: Allocation, evaluation: Evaluation, deployment: Deployment | None
    ) -> None:
        job = self._state.jobs[alloc.key]
        changed = replace(alloc, job=job, eval_id=evaluation.id, deployment_status=None)
        if deployment and deployment.active:
            changed = replace(changed, deployment_id=deployment.id)
            self._count_placed(deployment.id, alloc.group, changed, canary=False)
        self._update(self._state.put_alloc(changed))

    def _place(
        self,
        placement: Placement,
        name: str,
        evaluation: Evaluation,
        deployment: Deployment | None,
    ) -> Json | None:
        """Make an allocation; return an AllocMetric if it does not fit."""
        job = placement.job
        group = _group(job, name)
        if group is None:
            return None
        metric = self._node.misfit(job, group)
        if metric:
            return metric
        alloc = self._allocation(placement, group, evaluation)
        part_of = deployment and deployment.active and _belongs_to(deployment, job)
        if deployment and part_of:
            status = {
                "Healthy": None,
                "Timestamp": "0001-01-01T00:00:00Z",
                "Canary": True,
                "ModifyIndex": 0,
            }
            alloc = replace(
                alloc,
                deployment_id=deployment.id,
                deployment_status=status if placement.canary else None,
            )
            self._count_placed(deployment.id, name, alloc, canary=placement.canary)
        alloc = self._state.put_alloc(alloc)
        if placement.previous:
            previous = self._state.allocs[placement.previous.id]
            self._state.put_alloc(replace(previous, next=alloc.id))
        self._start(alloc)
        return None

    def _allocation(self, placement: Placement, group: Json, evaluation: Evaluation) -> Allocation:
        job, name = placement.job, str(uuid.uuid4())
        ports = self._node.claim(name, group)
        return Allocation(
            name, evaluation.id, f"{job['ID']}.{group['Name']}[{placement.index}]", job,
            group["Name"], self._node.id, self._node.name, _resources(group, ports),
            placed_metric(), placement.index,
            previous=placement.previous.id if placement.previous else "",
            reschedules=placement.reschedules,
        )  # fmt: skip

    def _count_placed(self, name: str, group: str, alloc: Allocation, *, canary: bool) -> None:
        deployment = self._state.deployments[name]
        rollout: GroupRollout | None = deployment.groups.get(group)
        if rollout is None:
            return
        rollout = replace(
            rollout,
            placed=rollout.placed + 1,
            canaries=(*rollout.canaries, alloc.id) if canary else rollout.canaries,
            progress_by=rollout.progress_by
            or (rollout.progress_deadline and time.time_ns() + rollout.progress_deadline),
        )
        changed = replace(deployment, groups={**deployment.groups, group: rollout})
        self.on_deployment(self._state.put_deployment(changed))

    def _reschedule_later(self, alloc: Allocation, when: int, evaluation: Evaluation) -> None:
        job = self._state.jobs[alloc.key]
        follow = self.evaluate(
            job, "alloc-failure", deployment=alloc.deployment_id, after=when, previous=evaluation.id
        )
        self._state.put_alloc(replace(self._state.allocs[alloc.id], followup_eval=follow.id))

    def _finish(
        self,
        evaluation: Evaluation,
        job: Json,
        plans: dict[str, GroupPlan],
        failed: dict[str, Json],
        deployment: Deployment | None,
    ) -> None:
        queued = {
            name: failed[name]["CoalescedFailures"] + 1 if name in failed else 0 for name in plans
        }
        for name, count in queued.items():
            self._state.queue(evaluation.key, name, count)
        done = replace(
            evaluation, status="complete", queued=queued, failed_groups=failed or None,
            deployment_id=deployment.id if deployment else evaluation.deployment_id,
        )  # fmt: skip
        if failed:
            done = replace(done, blocked=self._block(done, job, failed, queued))
        self._state.put_eval(done)

    def _block(
        self, evaluation: Evaluation, job: Json, failed: dict[str, Json], queued: dict[str, int]
    ) -> str:
        blocked = Evaluation(
            str(uuid.uuid4()), *evaluation.key, job["Type"], job["Priority"], "queued-allocs",
            status="blocked", description=_BLOCKED, job_modify_index=job["JobModifyIndex"],
            previous=evaluation.id, failed_groups=failed, queued=queued,
        )  # fmt: skip
        groups = [_group(job, name) for name in failed]
        wanted = [needs(group) for group in groups if group]
        self._blocked[evaluation.key] = blocked.id, wanted
        return self._state.put_eval(blocked).id

    def _cancel_blocked(self, key: Key, by: Evaluation) -> None:
        entry = self._blocked.pop(key, None)
        blocked = self._state.evals.get(entry[0]) if entry else None
        if blocked and blocked.id != by.id and blocked.status == "blocked":
            words = f'evaluation "{by.id}" successful'
            self._state.put_eval(replace(blocked, status="canceled", description=words))


def running_description(deployment: Deployment) -> str:
    """Return the description of a running deployment."""
    if not deployment.needs_promotion:
        return "Deployment is running"
    waiting = [g for g in deployment.groups.values() if g.desired_canaries]
    if all(group.auto_promote for group in waiting):
        return "Deployment is running pending automatic promotion"
    return "Deployment is running but requires manual promotion"


def _belongs_to(deployment: Deployment, job: Json) -> bool:
    made = deployment.job_version, deployment.job_create_index
    return bool(made == (job["Version"], job["CreateIndex"]))


def _group(job: Json, name: str) -> Json | None:
    return next((group for group in job["TaskGroups"] or [] if group["Name"] == name), None)


def _resources(group: Json, ports: list[Json]) -> Json:
    tasks = {}
    for task in group["Tasks"] or []:
        asked = task["Resources"]
        tasks[task["Name"]] = {
            "Cpu": {"CpuShares": asked["CPU"], "ReservedCores": None},
            "Memory": {"MemoryMB": asked["MemoryMB"], "MemoryMaxMB": asked["MemoryMaxMB"]},
            "Networks": None, "Devices": None,
        }  # fmt: skip
    shared = {"DiskMB": group["EphemeralDisk"]["SizeMB"], "Networks": None, "Ports": ports or None}
    return {"Tasks": tasks, "TaskLifecycles": None, "Shared": shared}
