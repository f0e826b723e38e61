"""Watches deployments: counts healthy allocations, promotes, fails, reverts, completes.

Nomad has this in a watcher of its own beside the scheduler. The scheduler only compares what is
with what should be; the watcher decides whether a new version may go on.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import Any

from nomad_double.group_plan import reschedule_time
from nomad_double.objects import Allocation, Deployment, GroupRollout, moment
from nomad_double.refusal import ApiError
from nomad_double.scheduler import running_description
from nomad_double.server import Server
from nomad_double.timers import Timers
from nomad_double.validate import multierror

Json = dict[str, Any]
_SUCCESS = "Deployment completed successfully"
_UNHEALTHY = "Failed due to unhealthy allocations"
_PAST_DEADLINE = "Failed due to progress deadline"
_BY_HAND = "Deployment marked as failed"
_PAUSED = "Deployment is paused"


class Deployments:
    """The deployment watcher. It writes to the state like all others."""

    def __init__(self, server: Server, timers: Timers) -> None:
        """Watch the server's deployments."""
        self._server = server
        self._state = server.state
        self._timers = timers
        server.on_health = self.note_health
        server.scheduler.on_deployment = self.watch

    def watch(self, deployment: Deployment) -> None:
        """Check a deployment when the first of its deadlines is over."""
        for group in deployment.groups.values():
            if group.progress_by:
                self._timers.at(group.progress_by, lambda: self._check_progress(deployment.id))

    def note_health(self, alloc: Allocation, healthy: bool) -> Allocation:
        """Record an allocation's health as its client reports it, inside a write."""
        deployment = self._state.deployments.get(alloc.deployment_id)
        if alloc.healthy == healthy:
            return alloc
        status = {
            "Healthy": healthy, "Timestamp": moment(time.time_ns()), "Canary": alloc.canary,
            "ModifyIndex": self._state.index,
        }  # fmt: skip
        before = alloc.healthy
        alloc = self._state.put_alloc(replace(alloc, deployment_status=status), client=True)
        if deployment is None or not deployment.active:
            return alloc
        group = _with_health(deployment.groups[alloc.group], before, healthy)
        deployment = self._put_group(deployment, alloc.group, group, "DeploymentAllocHealth")
        if not healthy and self._cannot_recover(alloc, group):
            self._fail(deployment, _UNHEALTHY)
        else:
            self._advance(deployment)
        return alloc

    def fail(self, name: str) -> Json:
        """Fail a deployment on a user's request."""
        with self._state.write():
            deployment = self._active(name, "can't fail terminal deployment")
            reverted = self._fail(deployment, _BY_HAND)
            return self._answer(deployment, reverted)

    def pause(self, name: str, *, pause: bool) -> Json:
        """Pause a deployment, or resume it."""
        with self._state.write():
            word = "pause" if pause else "resume"
            deployment = self._active(name, f"can't {word} terminal deployment")
            if pause:
                changed = replace(deployment, status="paused", description=_PAUSED)
                self._state.put_deployment(changed)
                return {**self._answer(deployment, None, evaluate=False)}
            groups = {k: _with_new_deadline(group) for k, group in deployment.groups.items()}
            changed = replace(deployment, status="running", groups=groups)
            changed = replace(changed, description=running_description(changed))
            self.watch(self._state.put_deployment(changed))
            self._succeed_if_complete(name)
            return self._answer(deployment, None)

    def promote(self, name: str, groups: Collection[str] | None) -> Json:
        """Promote the canaries of ``groups``, or of all groups."""
        with self._state.write():
            deployment = self._active(name, "can't promote terminal deployment")
            self._promote(deployment, groups)
            self._succeed_if_complete(name)
            return self._answer(deployment, None)

    def set_health(self, name: str, healthy: Sequence[str], unhealthy: Sequence[str]) -> Json:
        """Set the health of allocations on a user's request."""
        with self._state.write():
            words = "can't set health of allocations for a terminal deployment"
            deployment = self._active(name, words)
            for ids, value in ((healthy, True), (unhealthy, False)):
                for each in ids:
                    alloc = self._state.allocs.get(each)
                    if alloc is None or alloc.deployment_id != name:
                        raise ApiError(f'unknown alloc "{each}"')
                    self.note_health(alloc, value)
            return self._answer(deployment, None)

    def _active(self, name: str, words: str) -> Deployment:
        deployment = self._state.deployments.get(name)
        if deployment is None:
            raise ApiError("deployment not found")
        if not deployment.active:
            raise ApiError(words)
        return deployment

    def _answer(
        self, deployment: Deployment, reverted: int | None, *, evaluate: bool = True
    ) -> Json:
        evaluation = self._evaluate(deployment) if evaluate else None
        return {
            "EvalID": evaluation.id if evaluation else "",
            "EvalCreateIndex": evaluation.create_index if evaluation else 0,
            "DeploymentModifyIndex": self._state.index, "RevertedJobVersion": reverted,
            "Index": self._state.index,
        }  # fmt: skip

    def _evaluate(self, deployment: Deployment) -> Any:
        job = self._state.jobs.get(deployment.key)
        if job is None:
            return None
        return self._server.scheduler.evaluate(job, "deployment-watcher", deployment=deployment.id)

    def _promote(self, deployment: Deployment, groups: Collection[str] | None) -> None:
        wanted = {
            name: group
            for name, group in deployment.groups.items()
            if group.desired_canaries and not group.promoted and (groups is None or name in groups)
        }
        errors = []
        for name, group in wanted.items():
            healthy = [a for a in self._canaries(group) if a.healthy]
            if len(healthy) < group.desired_canaries:
                count = f"{len(healthy)}/{group.desired_canaries}"
                errors.append(f'Task group "{name}" has {count} healthy allocations')
        if not wanted:
            errors.append("no canaries to promote")
        if errors:
            raise ApiError(multierror(errors))
        promoted = {
            name: _with_new_deadline(replace(group, promoted=True))
            for name, group in wanted.items()
        }
        changed = replace(deployment, groups={**deployment.groups, **promoted})
        changed = replace(changed, description=running_description(changed))
        for group in wanted.values():
            for alloc in self._canaries(group):
                if alloc.healthy and alloc.deployment_status:
                    status = {**alloc.deployment_status, "Canary": False}
                    changed_alloc = self._state.put_alloc(replace(alloc, deployment_status=status))
                    self._server.client.update(changed_alloc)
        self.watch(self._state.put_deployment(changed, "DeploymentPromotion"))

    def _canaries(self, group: GroupRollout) -> list[Allocation]:
        found = [self._state.allocs[name] for name in group.canaries if name in self._state.allocs]
        return [alloc for alloc in found if not alloc.terminal]

    def _advance(self, deployment: Deployment) -> None:
        """Promote, complete, or let the scheduler place the next allocations."""
        waiting = [g for g in deployment.groups.values() if g.desired_canaries and not g.promoted]
        ready = waiting and all(
            sum(bool(a.healthy) for a in self._canaries(group)) >= group.desired_canaries
            for group in waiting
        )
        if ready and all(group.auto_promote for group in waiting):
            self._promote(deployment, None)
        self._succeed_if_complete(deployment.id)
        self._evaluate(deployment)

    def _succeed_if_complete(self, name: str) -> None:
        deployment = self._state.deployments[name]
        if deployment.status != "running" or deployment.needs_promotion:
            return
        if all(group.healthy >= group.desired_total for group in deployment.groups.values()):
            done = replace(deployment, status="successful", description=_SUCCESS)
            self._state.put_deployment(done)
            self._state.mark_stable(deployment.key, deployment.job_version, True)

    def _cannot_recover(self, alloc: Allocation, group: GroupRollout) -> bool:
        """Whether no replacement can come in time, or at all."""
        if not group.progress_deadline:
            return True
        policy = next(
            g["ReschedulePolicy"] for g in alloc.job["TaskGroups"] if g["Name"] == alloc.group
        )
        return alloc.client_status == "failed" and reschedule_time(alloc, policy) is None

    def _check_progress(self, name: str) -> None:
        with self._state.write():
            deployment = self._state.deployments.get(name)
            if deployment is None or deployment.status != "running":
                return
            late = [g for g in deployment.groups.values() if self._is_late(g)]
            if late:
                self._fail(deployment, _PAST_DEADLINE)
                self._evaluate(deployment)

    def _is_late(self, group: GroupRollout) -> bool:
        """Whether the deadline is over. Healthy canaries may wait for promotion forever."""
        if not group.progress_by or group.progress_by > time.time_ns():
            return False
        if group.desired_canaries and not group.promoted:
            return sum(bool(a.healthy) for a in self._canaries(group)) < group.desired_canaries
        return group.healthy < group.desired_total

    def _fail(self, deployment: Deployment, words: str) -> int | None:
        """Fail it, and return to the last stable version if the job asks for that."""
        reverts = any(group.auto_revert for group in deployment.groups.values())
        job = self._state.jobs.get(deployment.key)
        suffix, target = self._rollback(deployment, job) if reverts and job else ("", None)
        self._state.put_deployment(
            replace(deployment, status="failed", description=f"{words}{suffix}")
        )
        if target is None:
            self._evaluate(deployment)
            return None
        stored = self._server.reinstate(target)
        self._server.scheduler.evaluate(stored, "deployment-watcher", deployment=deployment.id)
        return int(target["Version"])

    def _rollback(self, deployment: Deployment, job: Json) -> tuple[str, Json | None]:
        stable = next(
            (
                version
                for version in self._state.versions[deployment.key]
                if version["Stable"] and version["Version"] != deployment.job_version
            ),
            None,
        )
        if stable is None:
            return " - no stable job version to auto revert to", None
        number = stable["Version"]
        if all(stable[k] == job[k] for k in ("TaskGroups", "Meta", "Datacenters", "Constraints")):
            return (
                f" - not rolling back to stable job version {number} as current job has same "
                "specification"
            ), None
        return f" - rolling back to job version {number}", stable

    def _put_group(
        self, deployment: Deployment, name: str, group: GroupRollout, kind: str
    ) -> Deployment:
        changed = replace(deployment, groups={**deployment.groups, name: group})
        changed = self._state.put_deployment(changed, kind)
        self.watch(changed)
        return changed


def _with_health(group: GroupRollout, before: bool | None, healthy: bool) -> GroupRollout:
    """Return the group with one more healthy or unhealthy allocation.

    A healthy one sets a new deadline.
    """
    group = replace(
        group,
        healthy=group.healthy + healthy - (before is True),
        unhealthy=group.unhealthy + (not healthy) - (before is False),
    )
    return _with_new_deadline(group) if healthy else group


def _with_new_deadline(group: GroupRollout) -> GroupRollout:
    if not group.progress_deadline:
        return group
    return replace(group, progress_by=time.time_ns() + group.progress_deadline)
