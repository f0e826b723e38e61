"""Lists the service's jobs on a cluster with their status, and stops them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from mlservice.cluster import Allocation, ListedJob, Nomad
from mlservice.errors import ClusterError


@dataclass(frozen=True)
class JobState:
    """A job on a cluster, as texts: its allocations or children, and its latest deployment."""

    name: str
    kind: str
    status: str
    work: str
    deployment: str


def job_states(nomad: Nomad, service: str) -> Iterator[JobState]:
    """Yield the service's jobs on one cluster, without dispatched and periodic children."""
    for job in nomad.jobs(f"{service}-").jobs:
        if not job.parent:
            yield JobState(
                job.name,
                job.kind,
                "stopped" if job.stopped else job.status,
                _counted(job.counts),
                _deployment(nomad, job),
            )


def newest_allocation(nomad: Nomad, job: str) -> Allocation:
    """Return the newest allocation of the job or of its newest child.

    Raises ``ClusterError`` if there is none.
    """
    children = nomad.jobs(f"{job}/").jobs
    newest = max(children, key=lambda child: child.created, default=None)
    found = nomad.allocations(newest.name if newest else job)
    if not found:
        raise ClusterError(
            f"{job} has no allocation: it never ran, or was garbage-collected; see "
            "`mlservice deploy status`"
        )
    return found[-1]


def stop_job(nomad: Nomad, job: str, *, children: bool, purge: bool) -> list[str]:
    """Stop the job, and its living ``children`` if asked; returns the names of what was stopped.

    Nomad itself never stops the children of a stopped job. Raises ``ClusterError`` if there is no
    such job.
    """
    if nomad.job(job) is None:
        raise ClusterError(f"there is no job {job}: see `mlservice deploy status`")
    stopped = [job]
    nomad.stop(job, purge=purge)
    if children:
        for child in nomad.jobs(f"{job}/", alive=True).jobs:
            nomad.stop(child.name, purge=purge)
            stopped.append(child.name)
    return stopped


def _deployment(nomad: Nomad, job: ListedJob) -> str:
    found = nomad.deployment(job.name) if job.kind == "service" else None
    return f"{found.status}: {found.description}" if found else ""


def _counted(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {state}" for state, count in counts.items())
