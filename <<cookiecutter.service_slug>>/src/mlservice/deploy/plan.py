"""Which jobs a service has on the clusters, each as Nomad's own parser reads it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

from mlservice.deploy.variables import as_hcl, declared, var_text
from mlservice.errors import ClusterRefused, SettingsError
from mlservice.jobs import Job
from mlservice.settings import Granularity

_CRONS: dict[Granularity, str] = {
    "hour": "5 * * * *",
    "three-hours": "5 */3 * * *",
    "day": "5 0 * * *",
    "week": "5 0 * * 1",
}


class Parser(Protocol):
    """What reads a job's HCL: a ``Nomad``, or something that reads as one."""

    @property
    def namespace(self) -> str:
        """The namespace that the job is for."""

    def parse(self, hcl: str, variables: str = "") -> dict[str, Any]:
        """See ``Nomad.parse``."""


Cluster = TypeVar("Cluster", bound=Parser)


@dataclass(frozen=True)
class Clusters(Generic[Cluster]):
    """The two Nomads of a service; both may be the same one."""

    batch: Cluster
    services: Cluster


@dataclass(frozen=True)
class Planned(Generic[Cluster]):
    """A job to be registered: the cluster it belongs to, and its specification in JSON."""

    nomad: Cluster
    spec: Mapping[str, Any]

    @property
    def name(self) -> str:
        """The job's ID."""
        return str(self.spec["ID"])


def crons(every: Granularity) -> list[str]:
    """When the pipeline starts (five fields, UTC): a little after each period has begun."""
    return [_CRONS[every]]


def plan_jobs(
    folder: Path, clusters: Clusters[Cluster], jobs: Sequence[Job], values: Mapping[str, str]
) -> list[Planned[Cluster]]:
    """Every job of the service, from the files in ``folder``.

    ``jobs`` are the declared ones, ``values`` the variables as HCL. Raises ``ClusterRefused`` with
    the parser's words and ``SettingsError`` for a variable that no file declares.
    """
    _check_names(folder, values)
    found = []
    for name, nomad in (
        ("job", clusters.batch),
        ("pipeline", clusters.batch),
        ("retrain", clusters.batch),
        ("worker", clusters.services),
        ("gateway", clusters.services),
    ):
        file = folder / f"{name}.nomad.hcl"
        sizes = [(job.name, size) for job in jobs for size in job.memory_mb]
        own = [{"job": as_hcl(job), "memory_mb": as_hcl(size)} for job, size in sizes]
        for more in own if name == "job" else [{}]:
            own_namespace = {"namespace": as_hcl(nomad.namespace)}
            found.append(Planned(nomad, _parse(file, nomad, {**values, **own_namespace, **more})))
    return found


def declared_variables(folder: Path) -> dict[str, str]:
    """The variables of all job files in ``folder``, and the kind of each."""
    found: dict[str, str] = {}
    for file in sorted(folder.glob("*.nomad.hcl")):
        found |= declared(file.read_text("utf-8"))
    return found


def _check_names(folder: Path, values: Mapping[str, str]) -> None:
    if unknown := sorted(values.keys() - declared_variables(folder).keys()):
        raise SettingsError(
            f"variable {', '.join(unknown)}: no job in {folder} declares it: correct the name, or "
            "remove it from the var file or --var"
        )


def _parse(file: Path, nomad: Parser, values: Mapping[str, str]) -> Mapping[str, Any]:
    hcl = file.read_text("utf-8")
    try:
        return nomad.parse(hcl, var_text(hcl, values))
    except ClusterRefused as error:
        raise ClusterRefused(f"{file}: {error.words}", error.status, error.words) from error
