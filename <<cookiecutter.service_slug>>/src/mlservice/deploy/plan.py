"""The jobs that a service has on its clusters, each as Nomad's own parser reads it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Generic

from mlservice.cluster import JobSpec
from mlservice.deploy.clusters import Cluster, ClusterName, Clusters, Parser
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


_FILES: tuple[tuple[str, ClusterName], ...] = (
    ("job", "batch"),
    ("pipeline", "batch"),
    ("worker", "services"),
    ("gateway", "services"),
)
# A file with several jobs: the variables of each.
_OWN: dict[str, list[dict[str, str]]] = {
    "pipeline": [{"crons": as_hcl([])}, {}],  # with crons, it is the job retrain
}


@dataclass(frozen=True)
class Planned(Generic[Cluster]):
    """A job to be registered: its specification, and the cluster that it belongs to."""

    nomad: Cluster
    cluster: ClusterName
    spec: JobSpec

    @property
    def name(self) -> str:
        """The job's name."""
        return self.spec.name


def crons(every: Granularity) -> list[str]:
    """Return when the pipeline starts: five minutes into each period (five fields, UTC)."""
    return [_CRONS[every]]


def plan_jobs(
    folder: Path, clusters: Clusters[Cluster], jobs: Sequence[Job], values: Mapping[str, str]
) -> list[Planned[Cluster]]:
    """Return every job of the service, from the files in ``folder``.

    ``jobs`` are the declared ones; ``values`` are the variables as HCL, with ``crons``. Raises
    ``ClusterRefused`` with the parser's words, and ``SettingsError`` for a variable that no file
    declares, or if ``crons`` is missing or empty.
    """
    _check_names(folder, values)
    _check_crons(values)
    sizes = [(job.name, size) for job in jobs for size in job.memory_mb]
    calls = [{"job": as_hcl(job), "memory_mb": as_hcl(size)} for job, size in sizes]
    found: list[Planned[Cluster]] = []
    for name, cluster in _FILES:
        file = folder / f"{name}.nomad.hcl"
        nomad = clusters.named(cluster)
        shared = {**values, "namespace": as_hcl(nomad.namespace)}
        own = calls if name == "job" else _OWN.get(name, [{}])
        found += [Planned(nomad, cluster, _parse(file, nomad, {**shared, **more})) for more in own]
    return found


def declared_variables(folder: Path) -> dict[str, str]:
    """Return the variables of all job files in ``folder``, and the type of each."""
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


def _check_crons(values: Mapping[str, str]) -> None:
    found = values.get("crons", "")
    if not found.strip("[] \t\n"):
        raise SettingsError(
            f"variable crons = {found or 'none'}: retrain needs at least one: give it, such as "
            '["5 0 * * *"], or remove the variable from the var file or --var; '
            "`mlservice deploy stop retrain` ends the retraining"
        )


def _parse(file: Path, nomad: Parser, values: Mapping[str, str]) -> JobSpec:
    hcl = file.read_text("utf-8")
    try:
        return nomad.parse(hcl, var_text(hcl, values))
    except ClusterRefused as error:
        raise ClusterRefused(f"{file}: {error.words}", error.status, error.words) from error
