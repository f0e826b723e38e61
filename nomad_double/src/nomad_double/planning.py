"""The answers of a dry run: the difference to the current job, and what the scheduler would do.

It uses the scheduler's own code, so a plan and the registration after it agree.
"""

from __future__ import annotations

from datetime import UTC, datetime
from itertools import pairwise
from typing import Any

from nomad_double.cron import parse_cron
from nomad_double.diff import job_diff
from nomad_double.group_plan import GroupPlan, destructive
from nomad_double.objects import NEVER
from nomad_double.server import Server

Json = dict[str, Any]
_LABELS = {
    "Ignore": "ignore", "Place": "create", "Stop": "destroy", "Migrate": "migrate",
    "InPlaceUpdate": "in-place update", "DestructiveUpdate": "create/destroy update",
    "Canary": "canary", "Preemptions": "preemptions",
}  # fmt: skip


def plan_answer(server: Server, job: Json, warnings: str, *, diff: bool) -> Json:
    """Return the API's JobPlanResponse. Nothing is changed."""
    with server.state.lock:
        old = server.state.jobs.get((job["Namespace"], job["ID"]))
        changes = job_diff(old, job)
        planned = {**job, "Version": 0, "CreateIndex": 0, "JobModifyIndex": 0}
        if old is not None:
            changed = changes["Type"] != "None"
            planned |= {"CreateIndex": old["CreateIndex"], "Version": old["Version"] + changed}
        plans, failed = _planned(server, planned)
        index = server.state.index
    if diff:
        _annotate(changes, plans, old, job)
    updates = {name: plan.updates() for name, plan in plans.items()}
    return {
        "Annotations": {"DesiredTGUpdates": updates, "PreemptedAllocs": None},
        "FailedTGAllocs": failed, "JobModifyIndex": old["JobModifyIndex"] if old else 0,
        "CreatedEvals": None, "Diff": changes if diff else None,
        "NextPeriodicLaunch": next_launch(job), "Warnings": warnings, "Index": index,
    }  # fmt: skip


def next_launch(job: Json) -> str:
    """Return the next start of a periodic job; Go's zero time for other jobs."""
    moment = next_moment(job, datetime.now(UTC))
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ") if moment else NEVER


def next_moment(job: Json, after: datetime) -> datetime | None:
    """Return the first moment of a periodic job's specifications after ``after``."""
    periodic = job["Periodic"]
    if not periodic or not periodic["Enabled"]:
        return None
    specs = periodic["Specs"] or [periodic["Spec"]]
    moments = [found for spec in specs if (found := parse_cron(spec).next(after))]
    return min(moments, default=None)


def versions_answer(kept: list[Json], *, diffs: bool) -> Json:
    """Return the API's JobVersionsResponse."""
    return {
        "Versions": list(kept),
        "Diffs": [job_diff(old, new) for new, old in pairwise(kept)] if diffs else None,
    }


def _planned(server: Server, job: Json) -> tuple[dict[str, GroupPlan], Json | None]:
    if job["Periodic"] or (job["ParameterizedJob"] is not None and not job["Dispatched"]):
        return {}, None
    return server.scheduler.plan(job)


def _annotate(changes: Json, plans: dict[str, GroupPlan], old: Json | None, new: Json) -> None:
    """Add to each group's difference what would happen to it."""
    for group in changes["TaskGroups"] or []:
        plan = plans.get(group["Name"])
        if plan is None:
            continue
        updates = plan.updates()
        group["Updates"] = {_LABELS[k]: n for k, n in updates.items() if n and k in _LABELS}
        for task in group["Tasks"] or []:
            if task["Type"] == "Edited":
                heavy = old is not None and destructive(old, new, group["Name"])
                kind = "create/destroy update" if heavy else "in-place update"
                task["Annotations"] = [f"forces {kind}"]
            elif task["Type"] in ("Added", "Deleted"):
                kind = "create" if task["Type"] == "Added" else "destroy"
                task["Annotations"] = [f"forces {kind}"]
