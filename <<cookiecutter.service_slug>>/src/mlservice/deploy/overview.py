"""What of the service there is on its clusters, and how it fares."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from mlservice.cluster import Nomad
from mlservice.errors import ClusterError

_COUNTED = ("Running", "Starting", "Queued", "Failed", "Lost")


@dataclass(frozen=True)
class JobState:
    """A job on a cluster, in words: its allocations or children, its latest deployment."""

    name: str
    kind: str
    status: str
    work: str
    deployment: str


def job_states(nomad: Nomad, service: str) -> Iterator[JobState]:
    """The service's jobs on one cluster, without dispatched and periodic children."""
    stubs, _ = nomad.jobs(f"{service}-")
    for stub in stubs:
        if stub.get("ParentID"):
            continue
        parent = "parameterized" if stub.get("ParameterizedJob") else None
        parent = "periodic" if stub.get("Periodic") else parent
        deployment = nomad.deployment(stub["ID"]) if stub["Type"] == "service" else None
        yield JobState(
            stub["ID"],
            parent or stub["Type"],
            "stopped" if stub.get("Stop") else stub["Status"],
            _work(stub.get("JobSummary") or {}, bool(parent)),
            f"{deployment['Status']}: {deployment['StatusDescription']}" if deployment else "",
        )


def newest_allocation(nomad: Nomad, job: str) -> dict[str, Any]:
    """The newest allocation of the job or of its newest child; raises ``ClusterError``."""
    children, _ = nomad.jobs(f"{job}/")
    newest = max(children, key=lambda stub: stub["CreateIndex"], default=None)
    found = nomad.allocations(newest["ID"] if newest else job)
    if not found:
        raise ClusterError(
            f"{job} has no allocation: it never ran, or was garbage-collected; see "
            "`mlservice deploy status`"
        )
    return found[-1]


def stop_job(nomad: Nomad, job: str, *, children: bool, purge: bool) -> list[str]:
    """Stop the job, and its children where asked; returns what was stopped.

    Nomad itself never stops the children of a job that is stopped. Raises ``ClusterError`` where
    there is no such job.
    """
    if nomad.job(job) is None:
        raise ClusterError(f"there is no job {job}: see `mlservice deploy status`")
    stopped = [job]
    nomad.stop(job, purge=purge)
    if children:
        stubs, _ = nomad.jobs(f"{job}/", where='Status != "dead"')
        stopped += [stub["ID"] for stub in stubs]
        for stub in stubs:
            nomad.stop(stub["ID"], purge=purge)
    return stopped


def _work(summary: dict[str, Any], is_parent: bool) -> str:
    if is_parent:
        children = summary.get("Children") or {}
        return ", ".join(f"{count} {name.lower()}" for name, count in children.items() if count)
    totals = dict.fromkeys(_COUNTED, 0)
    for group in (summary.get("Summary") or {}).values():
        for name in _COUNTED:
            totals[name] += group.get(name, 0)
    return ", ".join(f"{count} {name.lower()}" for name, count in totals.items() if count)
