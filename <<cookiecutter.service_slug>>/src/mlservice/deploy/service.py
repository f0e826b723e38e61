"""Brings a service to its clusters: all jobs and all Consul keys, and checks what is there."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from mlservice.cluster import Nomad, open_consul
from mlservice.deploy.clusters import ClusterName, Clusters, open_clusters
from mlservice.deploy.doctor import Finding, examine_consul, examine_nomad
from mlservice.deploy.operator_settings import SETTING_NAMES, UNSET, OperatorSetting
from mlservice.deploy.plan import Planned, plan_jobs
from mlservice.deploy.register import Row, failed, register_job, register_key
from mlservice.deploy.service_variables import cluster_variables, model_variable
from mlservice.errors import ClusterError
from mlservice.models.publish import roll
from mlservice.models.registry import Registry
from mlservice.pipeline.discovery import find_jobs
from mlservice.settings import Settings


@dataclass(frozen=True)
class Registration:
    """What to register, with the values of the jobs' HCL variables.

    ``only`` leaves out the jobs of the other cluster. ``overwrite_keys`` sets Consul keys that
    exist to their first value. ``dry_run`` only shows what would change.
    """

    variables: Mapping[str, str]
    only: ClusterName | None = None
    overwrite_keys: bool = False
    dry_run: bool = False


@dataclass(frozen=True)
class _Keys:
    """The registered keys, and the registry of models if Consul answers."""

    rows: list[Row]
    registry: Registry | None = None
    variables: Mapping[str, str] = field(default_factory=dict)


def register_service(
    settings: Settings, environ: Mapping[str, str], wanted: Registration
) -> list[Row]:
    """Register all jobs and Consul keys; one that is refused is a row and does not stop the rest.

    Without Consul the jobs are registered all the same, but not the one that has the model in its
    meta. Raises ``OwnerError``, ``PipelineError``, ``SettingsError``, and ``ClusterRefused`` with
    the parser's words.
    """
    jobs = find_jobs(settings.service.package)
    clusters = open_clusters(settings, environ)
    keys = _register_keys(settings, environ, wanted)
    values = {**cluster_variables(clusters), **keys.variables, **wanted.variables}
    planned = [
        job
        for job in plan_jobs(settings.folder / "nomad", clusters, jobs, values)
        if wanted.only in (None, job.cluster)
    ]
    needs_model = settings.worker_job if _is_rolling(settings) and not keys.registry else ""
    rows = keys.rows + [_register(job, needs_model, wanted) for job in planned]
    if not failed(rows) and not wanted.dry_run and wanted.only != "batch":
        _roll(settings, clusters, keys.registry)
    return rows


def examine_service(
    settings: Settings, environ: Mapping[str, str], variables: Mapping[str, str]
) -> list[Finding]:
    """Check both clusters and Consul for what the service needs; raises ``ClusterError``."""
    clusters = open_clusters(settings, environ)
    driver = variables.get("driver", '"docker"').strip('"')
    consul = open_consul(settings.consul, environ)
    findings = [*examine_nomad(clusters.batch, "batch cluster", driver)]
    if clusters.services.place != clusters.batch.place:
        findings += examine_nomad(clusters.services, "service cluster", driver)
    key = Registry(consul, settings.service.name, settings.models.serves).key
    return [*findings, *examine_consul(consul, key)]


def _register_keys(settings: Settings, environ: Mapping[str, str], wanted: Registration) -> _Keys:
    service = settings.service.name
    rows: list[Row] = []
    try:
        consul = open_consul(settings.consul, environ)
        registry = Registry(consul, service, settings.models.serves)
        keys = (
            registry.key,
            *(OperatorSetting(consul, service, name).key for name in SETTING_NAMES),
        )
        options = {"dry_run": wanted.dry_run, "overwrite": wanted.overwrite_keys}
        rows += [register_key(consul, key, UNSET, **options) for key in keys]
        return _Keys(rows, registry, model_variable(registry) if _is_rolling(settings) else {})
    except ClusterError as error:
        return _Keys([*rows, Row("key", "mlservice/...", "refused", str(error))])


def _register(job: Planned[Nomad], needs_model: str, wanted: Registration) -> Row:
    if job.name == needs_model:
        reason = "Consul does not answer, and only Consul knows which model serves: see above"
        return Row("job", job.name, "refused", reason)
    return register_job(job, dry_run=wanted.dry_run)


def _roll(settings: Settings, clusters: Clusters[Nomad], registry: Registry | None) -> None:
    """Bring a model that was published meanwhile to the workers."""
    if registry and _is_rolling(settings):
        roll(clusters.services, settings.worker_job, registry)


def _is_rolling(settings: Settings) -> bool:
    return settings.models.reload == "rolling"
