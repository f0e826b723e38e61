"""Allocations, evaluations and deployments as frozen values, with their forms in the API.

A reader may keep a value while the scheduler goes on, because a change makes a new value.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

Json = dict[str, Any]
NEVER = "0001-01-01T00:00:00Z"
TERMINAL_CLIENT = ("complete", "failed", "lost")
TERMINAL_EVAL = ("complete", "failed", "canceled")
TERMINAL_DEPLOYMENT = ("successful", "failed", "cancelled")
MAX_EVENTS = 10


def moment(nanoseconds: int) -> str:
    """Return a time since the epoch as Go's JSON writes it; 0 is Go's zero time."""
    if not nanoseconds:
        return NEVER
    seconds, rest = divmod(nanoseconds, 1_000_000_000)
    text = datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")
    fraction = f"{rest:09d}".rstrip("0")
    return f"{text}.{fraction}Z" if fraction else f"{text}Z"


@dataclass(frozen=True)
class TaskState:
    """A task's state as its client reports it. Times are ns since the epoch, 0 for never."""

    state: str = "pending"
    failed: bool = False
    restarts: int = 0
    last_restart: int = 0
    started_at: int = 0
    finished_at: int = 0
    events: tuple[Json, ...] = ()

    def json(self) -> Json:
        """Return the API's TaskState."""
        return {
            "State": self.state, "Failed": self.failed, "Restarts": self.restarts,
            "LastRestart": moment(self.last_restart), "StartedAt": moment(self.started_at),
            "FinishedAt": moment(self.finished_at), "Events": list(self.events),
            "TaskHandle": None, "Paused": "",
        }  # fmt: skip


@dataclass(frozen=True)
class Allocation:
    """One placement of a task group; ``job`` is the version that it was made from."""

    id: str
    eval_id: str
    name: str
    job: Json
    group: str
    node_id: str
    node_name: str
    resources: Json
    metrics: Json
    number: int
    desired_status: str = "run"
    desired_description: str = ""
    client_status: str = "pending"
    client_description: str = ""
    task_states: Mapping[str, TaskState] | None = None
    deployment_id: str = ""
    deployment_status: Json | None = None
    followup_eval: str = ""
    previous: str = ""
    next: str = ""
    reschedules: tuple[Json, ...] = ()
    transition: Mapping[str, bool] = field(default_factory=dict)
    create_index: int = 0
    modify_index: int = 0
    alloc_modify_index: int = 0
    create_time: int = field(default_factory=time.time_ns)
    modify_time: int = field(default_factory=time.time_ns)

    @property
    def key(self) -> tuple[str, str]:
        """The namespace and ID of its job."""
        return self.job["Namespace"], self.job["ID"]

    @property
    def ended(self) -> bool:
        """Whether its client reported its end."""
        return self.client_status in TERMINAL_CLIENT

    @property
    def terminal(self) -> bool:
        """Whether it has ended, or should end."""
        return self.desired_status in ("stop", "evict") or self.ended

    @property
    def canary(self) -> bool:
        """Whether it is a canary that was not promoted."""
        return bool(self.deployment_status and self.deployment_status["Canary"])

    @property
    def healthy(self) -> bool | None:
        """Its health as its deployment knows it; None if unknown."""
        return self.deployment_status["Healthy"] if self.deployment_status else None

    def stub(self, *, resources: bool = False, task_states: bool = True) -> Json:
        """Return it as lists show it."""
        return {
            "ID": self.id, "EvalID": self.eval_id, "Name": self.name,
            "Namespace": self.job["Namespace"], "NodeID": self.node_id, "NodeName": self.node_name,
            "JobID": self.job["ID"], "JobType": self.job["Type"], "JobVersion": self.job["Version"],
            "TaskGroup": self.group, "DesiredStatus": self.desired_status,
            "DesiredDescription": self.desired_description, "ClientStatus": self.client_status,
            "ClientDescription": self.client_description,
            "DesiredTransition": _transition(self.transition),
            "TaskStates": self._states() if task_states else None,
            "DeploymentStatus": self.deployment_status, "FollowupEvalID": self.followup_eval,
            "NextAllocation": self.next, "RescheduleTracker": self._tracker(),
            "PreemptedAllocations": None, "PreemptedByAllocation": "",
            "CreateIndex": self.create_index, "ModifyIndex": self.modify_index,
            "CreateTime": self.create_time, "ModifyTime": self.modify_time,
            **({"AllocatedResources": self.resources} if resources else {}),
        }  # fmt: skip

    def full(self) -> Json:
        """Return it as the API shows one allocation."""
        return {
            **self.stub(resources=True), "Job": self.job, "Metrics": self.metrics,
            "DeploymentID": self.deployment_id, "PreviousAllocation": self.previous,
            "AllocModifyIndex": self.alloc_modify_index, "NetworkStatus": None, "Services": None,
            "Resources": None, "TaskResources": None,
        }  # fmt: skip

    def _states(self) -> Json | None:
        if self.task_states is None:
            return None
        return {name: state.json() for name, state in self.task_states.items()}

    def _tracker(self) -> Json | None:
        return {"Events": list(self.reschedules)} if self.reschedules else None


@dataclass(frozen=True)
class Evaluation:
    """One run of the scheduler for a job."""

    id: str
    namespace: str
    job_id: str
    kind: str
    priority: int
    triggered_by: str
    status: str = "pending"
    description: str = ""
    job_modify_index: int = 0
    deployment_id: str = ""
    wait_until: int = 0
    next: str = ""
    previous: str = ""
    blocked: str = ""
    failed_groups: Json | None = None
    queued: Json | None = None
    create_index: int = 0
    modify_index: int = 0
    create_time: int = field(default_factory=time.time_ns)
    modify_time: int = field(default_factory=time.time_ns)

    @property
    def key(self) -> tuple[str, str]:
        """The namespace and ID of its job."""
        return self.namespace, self.job_id

    @property
    def terminal(self) -> bool:
        """Whether it has ended. A blocked one has not."""
        return self.status in TERMINAL_EVAL

    def json(self) -> Json:
        """Return the API's Evaluation."""
        return {
            "ID": self.id, "Namespace": self.namespace, "Priority": self.priority,
            "Type": self.kind, "TriggeredBy": self.triggered_by, "JobID": self.job_id,
            "JobModifyIndex": self.job_modify_index, "NodeID": "", "NodeModifyIndex": 0,
            "DeploymentID": self.deployment_id, "Status": self.status,
            "StatusDescription": self.description, "Wait": 0, "WaitUntil": moment(self.wait_until),
            "NextEval": self.next, "PreviousEval": self.previous, "BlockedEval": self.blocked,
            "FailedTGAllocs": self.failed_groups, "QueuedAllocations": self.queued,
            "ClassEligibility": None, "EscapedComputedClass": False, "AnnotatePlan": False,
            "SnapshotIndex": self.modify_index, "CreateIndex": self.create_index,
            "ModifyIndex": self.modify_index, "CreateTime": self.create_time,
            "ModifyTime": self.modify_time,
        }  # fmt: skip

    def stub(self) -> Json:
        """Return it as ``related=true`` lists it."""
        wanted = (
            "ID", "Priority", "Type", "TriggeredBy", "Namespace", "JobID", "NodeID", "DeploymentID",
            "Status", "StatusDescription", "WaitUntil", "NextEval", "PreviousEval", "BlockedEval",
            "CreateIndex", "ModifyIndex", "CreateTime", "ModifyTime",
        )  # fmt: skip
        found = self.json()
        return {name: found[name] for name in wanted}


@dataclass(frozen=True)
class GroupRollout:
    """A task group's part in a deployment; ``progress_by`` is ns since the epoch."""

    auto_revert: bool
    auto_promote: bool
    progress_deadline: int
    desired_total: int
    desired_canaries: int = 0
    promoted: bool = False
    progress_by: int = 0
    canaries: tuple[str, ...] = ()
    placed: int = 0
    healthy: int = 0
    unhealthy: int = 0

    def json(self) -> Json:
        """Return the API's DeploymentState."""
        return {
            "AutoRevert": self.auto_revert, "AutoPromote": self.auto_promote,
            "ProgressDeadline": self.progress_deadline,
            "RequireProgressBy": moment(self.progress_by), "Promoted": self.promoted,
            "PlacedCanaries": list(self.canaries) or None,
            "DesiredCanaries": self.desired_canaries, "DesiredTotal": self.desired_total,
            "PlacedAllocs": self.placed, "HealthyAllocs": self.healthy,
            "UnhealthyAllocs": self.unhealthy,
        }  # fmt: skip


@dataclass(frozen=True)
class Deployment:
    """The change of a service from one version to the next."""

    id: str
    namespace: str
    job_id: str
    job_version: int
    job_modify_index: int
    job_spec_modify_index: int
    job_create_index: int
    groups: Mapping[str, GroupRollout]
    status: str = "running"
    description: str = "Deployment is running"
    create_index: int = 0
    modify_index: int = 0
    create_time: int = field(default_factory=time.time_ns)
    modify_time: int = field(default_factory=time.time_ns)

    @property
    def key(self) -> tuple[str, str]:
        """The namespace and ID of its job."""
        return self.namespace, self.job_id

    @property
    def active(self) -> bool:
        """Whether it has not ended."""
        return self.status not in TERMINAL_DEPLOYMENT

    @property
    def needs_promotion(self) -> bool:
        """Whether a group has canaries that are not promoted."""
        return any(group.desired_canaries and not group.promoted for group in self.groups.values())

    def json(self) -> Json:
        """Return the API's Deployment."""
        return {
            "ID": self.id, "Namespace": self.namespace, "JobID": self.job_id,
            "JobVersion": self.job_version, "JobModifyIndex": self.job_modify_index,
            "JobSpecModifyIndex": self.job_spec_modify_index,
            "JobCreateIndex": self.job_create_index, "IsMultiregion": False,
            "TaskGroups": {name: group.json() for name, group in self.groups.items()},
            "Status": self.status, "StatusDescription": self.description, "EvalPriority": 50,
            "CreateIndex": self.create_index, "ModifyIndex": self.modify_index,
            "CreateTime": self.create_time, "ModifyTime": self.modify_time,
        }  # fmt: skip


def _transition(found: Mapping[str, bool]) -> Json:
    names = (
        "Migrate",
        "Reschedule",
        "ForceReschedule",
        "NoShutdownDelay",
        "MigrateDisablePlacement",
    )
    return {name: found.get(name) for name in names}
