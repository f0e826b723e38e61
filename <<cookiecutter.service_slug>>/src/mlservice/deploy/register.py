"""Registers jobs and keys, and overwrites no concurrent change. Running it twice changes nothing.

Each job is planned first; a job that the plan would not change is left alone. The others are
registered with check-and-set and planned again, since two writers can both succeed before
Nomad 2.0.1.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from mlservice.cluster import ConsulStore, Difference, JobPlan, Nomad
from mlservice.deploy.plan import Planned
from mlservice.errors import ClusterAway, ClusterConflict, ClusterError, ClusterRefused

_MAX_TRIES = 5
_PAUSE_SECONDS = 1.0
_SIGNS = {"added": "+", "deleted": "-", "edited": "~", "none": " "}
Action = Literal["created", "changed", "unchanged", "kept", "refused"]


@dataclass(frozen=True)
class Row:
    """What was done with one job or key (in a dry run: what would be done), and a detail."""

    kind: str
    name: str
    action: Action
    detail: str = ""


def register_job(planned: Planned[Nomad], *, dry_run: bool) -> Row:
    """Register one job unless the cluster has the same; a refusal is a row with Nomad's words."""
    try:
        return _register(planned, dry_run)
    except ClusterRefused as error:
        return Row("job", planned.name, "refused", error.words)
    except ClusterError as error:
        return Row("job", planned.name, "refused", str(error))


def register_key(
    consul: ConsulStore, key: str, value: str, *, dry_run: bool, overwrite: bool
) -> Row:
    """Create a key; an existing one keeps its value, unless ``overwrite``."""
    try:
        entry = consul.get(key)
        if entry.value == value:
            return Row("key", key, "unchanged")
        if entry.value is not None and not overwrite:
            return Row("key", key, "kept", f"holds {_short(entry.value)}")
        action: Action = "created" if entry.value is None else "changed"
        if not dry_run:
            written = consul.put(key, value, entry.index)
            if not written or consul.get(key).value != value:
                return Row("key", key, "refused", "another process writes it at the same time")
        return Row("key", key, action, _short(value))
    except ClusterError as error:
        return Row("key", key, "refused", str(error))


def failed(rows: Sequence[Row]) -> bool:
    """Whether anything was refused."""
    return any(row.action == "refused" for row in rows)


def _register(planned: Planned[Nomad], dry_run: bool) -> Row:
    row = Row("job", planned.name, "unchanged")
    lost: ClusterAway | None = None
    for _ in range(_MAX_TRIES):
        try:
            plan = planned.nomad.plan(planned.spec)
            if plan.change == "none":
                return row if row.action != "unchanged" else _unchanged(planned, plan)
            row = _changed(planned, plan, dry_run)
            if dry_run:
                return row
            planned.nomad.register(planned.spec, plan.index)
        except ClusterAway as error:
            lost = error  # it may have registered the job: the next plan tells
            time.sleep(_PAUSE_SECONDS)
        except ClusterConflict:
            continue
    raise lost or ClusterError(
        f"gave up after {_MAX_TRIES} conflicting registrations: stop the other process that "
        "registers this job (see `nomad job history`), then run `mlservice deploy register`"
    )


def _unchanged(planned: Planned[Nomad], plan: JobPlan) -> Row:
    """A job that is registered already. One whose deployment failed is refused all the same.

    Nomad places no new allocation for an unchanged job after a failed deployment.
    """
    last = planned.nomad.deployment(planned.name) if planned.spec.kind == "service" else None
    job = planned.nomad.job(planned.name)
    if last and job and last.status == "failed" and last.job_version == job.version:
        return Row(
            "job",
            planned.name,
            "refused",
            f"its deployment failed ({last.description}), and Nomad does not try an unchanged job "
            "again: register another image, or "
            f"`mlservice deploy stop {planned.name}` and register again",
        )
    return Row("job", planned.name, "unchanged", plan.warnings)


def _changed(planned: Planned[Nomad], plan: JobPlan, dry_run: bool) -> Row:
    action: Action = "created" if plan.change == "added" else "changed"
    shown = "\n".join(_lines(plan.differences)) if dry_run else ""
    return Row("job", planned.name, action, shown or _lack_of_room(plan) or plan.warnings)


def _lines(differences: Sequence[Difference]) -> Iterator[str]:
    """Each difference as a line: ``+``, ``-`` or ``~``, the path, and the old and new values."""
    for each in differences:
        values = " -> ".join(filter(None, (_short(each.old), _short(each.new))))
        yield f"{_SIGNS[each.kind]} {each.path}: {values}"


def _lack_of_room(plan: JobPlan) -> str:
    groups = ", ".join(plan.unplaced)
    return f"no node has room for {groups} at the moment" if groups else ""


def _short(text: str) -> str:
    return text if len(text) <= 80 else f"{text[:79]}…"
