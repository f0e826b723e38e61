"""The two Nomads of a service, and which of them has a job."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Generic, Literal, Protocol, TypeVar

from mlservice.cluster import JobSpec, Nomad, open_nomad
from mlservice.errors import ClusterError
from mlservice.settings import Settings

ClusterName = Literal["batch", "services"]


class Parser(Protocol):
    """Reads a job's HCL: a ``Nomad``, or a parser that needs none."""

    @property
    def namespace(self) -> str:
        """The namespace that the job is for."""

    def parse(self, hcl: str, variables: str = "") -> JobSpec:
        """See ``Nomad.parse``."""


Cluster = TypeVar("Cluster", bound=Parser)


@dataclass(frozen=True)
class Clusters(Generic[Cluster]):
    """The two Nomads of a service. Both may be the same cluster."""

    batch: Cluster
    services: Cluster

    def named(self, name: ClusterName) -> Cluster:
        """Return one of the two."""
        return self.batch if name == "batch" else self.services


def open_clusters(settings: Settings, environ: Mapping[str, str]) -> Clusters[Nomad]:
    """Return the two Nomads of the settings, else of the environment; raises ``ClusterError``."""
    return Clusters(
        open_nomad(settings.batch_cluster, environ, "batch_cluster"),
        open_nomad(settings.service_cluster, environ, "service_cluster"),
    )


def full_name(service: str, job: str) -> str:
    """Return the job's name on a cluster; ``job`` may leave out the service's name."""
    return job if job.startswith(f"{service}-") else f"{service}-{job}"


def locate_job(clusters: Clusters[Nomad], service: str, job: str) -> tuple[Nomad, str]:
    """Return the cluster that has the job, and the job's full name; raises ``ClusterError``."""
    full = full_name(service, job)
    for nomad in (clusters.batch, clusters.services):
        if nomad.job(full) is not None:
            return nomad, full
    raise ClusterError(f"there is no job {full} on either cluster: see `mlservice deploy status`")
