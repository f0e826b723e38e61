"""What Nomad answers, as frozen values.

The modules of this package read Nomad's JSON and make these values from it. Nothing outside the
package knows Nomad's field names, so a change of Nomad's API is a change in one place.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

DEAD = "dead"
Document = Mapping[str, Any]
ChangeKind = Literal["none", "added", "deleted", "edited"]


@dataclass(frozen=True)
class TaskGroup:
    """The stop times of a group's allocations, in nanoseconds.

    ``shutdown_delay`` is the time between leaving the service catalog and the signal to stop.
    ``kill_timeouts`` has for each task the time between that signal and the kill.
    """

    name: str
    shutdown_delay: int
    kill_timeouts: tuple[int, ...]


@dataclass(frozen=True)
class JobSpec:
    """A job's specification: ``document`` is Nomad's own form of it, which is sent back as it is.

    ``kind`` is the job's type, such as "batch" or "service".
    """

    name: str
    kind: str
    meta: Mapping[str, str]
    document: Document = field(repr=False)
    groups: tuple[TaskGroup, ...] = ()

    def with_meta(self, name: str, value: str) -> JobSpec:
        """Return the same specification with one more entry in its meta."""
        meta = {**self.meta, name: value}
        return replace(self, meta=meta, document={**self.document, "Meta": meta})


@dataclass(frozen=True)
class RegisteredJob:
    """A job as the cluster has it; ``index`` is what the next check-and-set must name."""

    spec: JobSpec
    status: str
    stopped: bool
    version: int
    index: int

    @property
    def alive(self) -> bool:
        """Whether the job runs or waits for a node."""
        return self.status != DEAD


@dataclass(frozen=True)
class ListedJob:
    """A job in a listing.

    ``kind`` is "parameterized" or "periodic" for a job that has children, else the job's type.
    ``parent`` is empty for a job without one. ``counts`` has the allocations by state, or the
    children by state for a job that has children; a state without any is left out.
    ``created`` grows with each job that the cluster makes.
    """

    name: str
    kind: str = ""
    parent: str = ""
    status: str = ""
    stopped: bool = False
    meta: Mapping[str, str] = field(default_factory=dict)
    counts: Mapping[str, int] = field(default_factory=dict)
    created: int = 0
    index: int = 0

    @property
    def alive(self) -> bool:
        """Whether the job runs or waits for a node."""
        return self.status != DEAD


@dataclass(frozen=True)
class JobListing:
    """The jobs of a listing, and the index that the next blocking request names.

    The index may be lower than the last one after Nomad was restored from a snapshot.
    """

    jobs: tuple[ListedJob, ...]
    index: int


@dataclass(frozen=True)
class Dispatched:
    """A dispatched child. ``replayed`` means that the token was used before."""

    child: str
    replayed: bool


@dataclass(frozen=True)
class Difference:
    """One field that a registration would change: its path, and its values before and after."""

    kind: ChangeKind
    path: str
    old: str
    new: str


@dataclass(frozen=True)
class Unplaced:
    """Why no node takes a group: how many nodes were evaluated, and how many fail on what.

    ``exhausted`` counts nodes by the resource that they lack, ``filtered`` by the constraint that
    they do not satisfy. ``quotas`` are the used-up ones.
    """

    evaluated: int
    exhausted: Mapping[str, int]
    filtered: Mapping[str, int]
    quotas: tuple[str, ...]


@dataclass(frozen=True)
class JobPlan:
    """What a registration would change; ``unplaced`` are the groups that no node has room for.

    ``index`` is what the registration must name; 0 if the job does not exist yet.
    """

    change: ChangeKind
    differences: tuple[Difference, ...]
    unplaced: Mapping[str, Unplaced]
    warnings: str
    index: int


@dataclass(frozen=True)
class Evaluation:
    """One run of the scheduler for a job, and the groups that it could not place."""

    unplaced: Mapping[str, Unplaced]


@dataclass(frozen=True)
class Deployment:
    """The rollout of one version of a service job."""

    id: str
    status: str
    description: str
    job_version: int


@dataclass(frozen=True)
class Termination:
    """How a task's process ended; ``signal`` is 0 if no signal ended it."""

    exit_code: int
    signal: int
    out_of_memory: bool


@dataclass(frozen=True)
class TaskState:
    """A task of an allocation: how it ended last, if it did, and Nomad's last message about it."""

    termination: Termination | None = None
    last_message: str = ""


@dataclass(frozen=True)
class Allocation:
    """A group of tasks on a node. ``tasks`` is empty until the node reports for the first time."""

    id: str
    status: str
    description: str
    tasks: Mapping[str, TaskState]


@dataclass(frozen=True)
class Node:
    """A node of the cluster and the task drivers that are healthy on it."""

    name: str
    ready: bool
    drivers: frozenset[str]


@dataclass(frozen=True)
class Agent:
    """The agent that answers. What it does not tell about its templates is None.

    ``consul_attempts`` is how often a template asks an absent Consul before the task is killed;
    0 means without a limit. ``denied_functions`` are those that templates may not call.
    """

    version: str
    consul_attempts: int | None
    denied_functions: frozenset[str] | None


@dataclass(frozen=True)
class Token:
    """The ACL token of the requests, and the names of its policies."""

    management: bool
    policies: tuple[str, ...]
