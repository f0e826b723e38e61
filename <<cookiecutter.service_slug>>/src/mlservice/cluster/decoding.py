"""Makes the values of ``answers`` from Nomad's JSON: the one place that knows its field names."""

from __future__ import annotations

from collections.abc import Iterator

from mlservice.cluster.answers import (
    Agent,
    Allocation,
    ChangeKind,
    Deployment,
    Difference,
    Dispatched,
    Evaluation,
    JobPlan,
    JobSpec,
    ListedJob,
    Node,
    RegisteredJob,
    TaskGroup,
    TaskState,
    Termination,
    Token,
    Unplaced,
)
from mlservice.cluster.fields import Fields, decode_each
from mlservice.errors import ClusterError

_CHANGES: dict[str, ChangeKind] = {
    "None": "none", "Added": "added", "Deleted": "deleted", "Edited": "edited",
}  # fmt: skip
_STATES = ("Running", "Starting", "Queued", "Failed", "Lost")
_CONSUL_ATTEMPTS = 12  # Nomad's default
_KILL_TIMEOUT = 5_000_000_000  # Nomad's default


def decode_spec(found: object) -> JobSpec:
    """Return the specification in Nomad's JSON, such as its parser gives it."""
    job = Fields("the job", found)
    groups = job.list_of("TaskGroups", _group)
    return JobSpec(job.required("ID"), job.text("Type"), job.text_map("Meta"), job.found, groups)


def _group(group: Fields) -> TaskGroup:
    tasks = group.list_of("Tasks", lambda task: task.number("KillTimeout", _KILL_TIMEOUT))
    return TaskGroup(group.text("Name"), group.number("ShutdownDelay"), tasks)


def empty_spec(name: str) -> JobSpec:
    """Return a batch job without tasks, which Nomad refuses to register."""
    return decode_spec({"ID": name, "Name": name, "Type": "batch"})


def decode_job(found: object) -> RegisteredJob:
    """Return a registered job."""
    job = Fields("the job", found)
    return RegisteredJob(
        decode_spec(found),
        status=job.text("Status"),
        stopped=job.flag("Stop"),
        version=job.number("Version"),
        index=job.number("JobModifyIndex"),
    )


def decode_listed(job: Fields) -> ListedJob:
    """Return a job of a listing.

    A job with an unreadable field keeps its name alone. It is not left out, since a child that is
    missing in a listing is taken for one that has ended.
    """
    name = job.required("ID")
    try:
        return _decode_listed(name, job)
    except ClusterError:
        return ListedJob(name)


def _decode_listed(name: str, job: Fields) -> ListedJob:
    parent = "parameterized" if job.flag("ParameterizedJob") else ""
    parent = "periodic" if job.flag("Periodic") else parent
    return ListedJob(
        name,
        kind=parent or job.text("Type"),
        parent=job.text("ParentID"),
        status=job.text("Status"),
        stopped=job.flag("Stop"),
        meta=job.text_map("Meta"),
        counts=_counts(job.object("JobSummary"), has_children=bool(parent)),
        created=job.number("CreateIndex"),
        index=job.number("JobModifyIndex"),
    )


def _counts(summary: Fields, *, has_children: bool) -> dict[str, int]:
    if has_children:
        totals = summary.counts("Children")
    else:
        groups = summary.map_of("Summary", lambda group: group)
        totals = {name: sum(g.number(name) for g in groups.values()) for name in _STATES}
    return {name.lower(): count for name, count in totals.items() if count}


def decode_dispatched(found: object) -> Dispatched:
    """Return the child of a dispatch; Nomad makes no evaluation if the token was used before."""
    answer = Fields("the dispatch", found)
    return Dispatched(answer.required("DispatchedJobID"), replayed=not answer.text("EvalID"))


def decode_plan(found: object) -> JobPlan:
    """Return a plan, with the fields that it changes."""
    plan = Fields("the plan", found)
    diff = plan.object("Diff")
    return JobPlan(
        change=_change(diff),
        differences=tuple(_differences(diff)),
        unplaced=plan.map_of("FailedTGAllocs", _unplaced),
        warnings=" ".join(plan.text("Warnings").split()),
        index=plan.number("JobModifyIndex"),
    )


def _change(diff: Fields) -> ChangeKind:
    """A kind that is unknown counts as a change, so that nothing stays unregistered."""
    return _CHANGES.get(diff.text("Type"), "edited")


def _differences(diff: Fields, path: str = "") -> Iterator[Difference]:
    for field in diff.list_of("Fields", lambda item: item):
        if (kind := _change(field)) != "none":
            name = f"{path}{field.text('Name')}"
            yield Difference(kind, name, field.text("Old"), field.text("New"))
    for name in ("Objects", "TaskGroups", "Tasks"):
        for child in diff.list_of(name, lambda item: item):
            yield from _differences(child, f"{path}{child.text('Name')}.")


def _unplaced(metric: Fields) -> Unplaced:
    return Unplaced(
        metric.number("NodesEvaluated"),
        exhausted=metric.counts("DimensionExhausted"),
        filtered=metric.counts("ConstraintFiltered"),
        quotas=metric.texts("QuotaExhausted"),
    )


def decode_evaluations(found: object) -> list[Evaluation]:
    """Return a job's evaluations, the oldest first."""
    items = decode_each("the evaluations", found, lambda item: item)
    ordered = sorted(items, key=lambda item: item.number("CreateIndex"))
    return [Evaluation(item.map_of("FailedTGAllocs", _unplaced)) for item in ordered]


def decode_deployment(found: object) -> Deployment:
    """Return a deployment."""
    deployment = Fields("the deployment", found)
    return Deployment(
        deployment.required("ID"),
        status=deployment.text("Status"),
        description=deployment.text("StatusDescription"),
        job_version=deployment.number("JobVersion"),
    )


def decode_allocations(found: object) -> list[Allocation]:
    """Return a job's allocations, the oldest first."""
    decoded = decode_each(
        "the allocations", found, lambda item: (item.number("CreateIndex"), _allocation(item))
    )
    return [allocation for _, allocation in sorted(decoded, key=lambda pair: pair[0])]


def _allocation(item: Fields) -> Allocation:
    return Allocation(
        item.required("ID"),
        status=item.text("ClientStatus"),
        description=item.text("ClientDescription"),
        tasks=item.map_of("TaskStates", _task_state),
    )


def _task_state(state: Fields) -> TaskState:
    events = state.list_of("Events", lambda event: event)
    ends = state.list_of("Events", _termination)
    last = events[-1].text("DisplayMessage") if events else ""
    return TaskState(next((end for end in reversed(ends) if end), None), last)


def _termination(event: Fields) -> Termination | None:
    if event.text("Type") != "Terminated":
        return None
    details = event.text_map("Details")
    return Termination(
        exit_code=_whole(details.get("exit_code", "")),
        signal=_whole(details.get("signal", "")),
        out_of_memory=details.get("oom_killed") == "true",
    )


def _whole(text: str) -> int:
    return int(text) if text.removeprefix("-").isdecimal() else 0


def decode_nodes(found: object) -> list[Node]:
    """Return the nodes of the cluster."""
    return list(decode_each("the nodes", found, _node))


def _node(node: Fields) -> Node:
    drivers = node.map_of("Drivers", lambda driver: driver.flag("Healthy"))
    healthy = frozenset(name for name, is_healthy in drivers.items() if is_healthy)
    return Node(node.text("Name"), node.text("Status") == "ready", healthy)


def decode_agent(found: object) -> Agent:
    """Return the agent; some tokens and some versions hide parts of its configuration."""
    agent = Fields("the agent", found)
    config = agent.object("config")
    version = config.object("Version").text("Version")
    template = config.object("Client").object("TemplateConfig")
    retry = template.found.get("ConsulRetry")
    denied = template.found.get("FunctionDenylist")
    return Agent(
        version or agent.object("member").object("Tags").text("build"),
        consul_attempts=(
            template.object("ConsulRetry").number("Attempts", _CONSUL_ATTEMPTS)
            if isinstance(retry, dict)
            else None
        ),
        denied_functions=(
            None if denied is None else frozenset(template.texts("FunctionDenylist"))
        ),
    )


def decode_token(found: object) -> Token:
    """Return an ACL token."""
    token = Fields("the token", found)
    return Token(token.text("Type") == "management", token.texts("Policies"))


def decode_oversubscription(found: object) -> bool:
    """Return whether the scheduler lets tasks use more memory than they reserve."""
    configuration = Fields("the scheduler's configuration", found).object("SchedulerConfig")
    return configuration.flag("MemoryOversubscriptionEnabled")
