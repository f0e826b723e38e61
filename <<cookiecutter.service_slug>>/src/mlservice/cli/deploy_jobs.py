"""The jobs that a service has on its clusters, for the verbs that register and check them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from typing import TYPE_CHECKING, Literal

from mlservice.cli.options import read_pairs
from mlservice.errors import ClusterError, ClusterRefused
from mlservice.settings import Settings

if TYPE_CHECKING:
    from mlservice.cluster import ConsulStore, JobSpec, Nomad
    from mlservice.deploy.plan import Clusters
    from mlservice.deploy.register import Row
    from mlservice.models import Registry

Only = Literal["batch", "services"]
_FROM_ENVIRONMENT = "NOMAD_VAR_"
_VERSIONS = ("1.6.10", "2.0.5")


@dataclass(frozen=True)
class Registration:
    """What to register: the var file and variables, which cluster, and how boldly."""

    env: str | None
    var: Sequence[str]
    dry_run: bool = False
    only: Only | None = None
    overwrite_keys: bool = False


def register(settings: Settings, environ: Mapping[str, str], wanted: Registration) -> list[Row]:
    """Register all jobs and keys of the service; a refusal is a row."""
    from mlservice.cluster import open_consul
    from mlservice.deploy.operator_settings import CONTROLS, Control
    from mlservice.deploy.plan import plan_jobs
    from mlservice.deploy.register import Row, failed, register_job
    from mlservice.deploy.variables import as_hcl
    from mlservice.models.publish import roll
    from mlservice.models.registry import Registry
    from mlservice.pipeline.discovery import find_jobs

    jobs = find_jobs(settings.service.package)
    values = variables(settings, environ, wanted.env, wanted.var)
    clusters = open_clusters(settings, environ)
    values.setdefault("services_namespace", as_hcl(clusters.services.namespace))
    values.setdefault("services_region", as_hcl(clusters.services.region))
    service = settings.service.name
    worker, rolling = settings.worker_job, settings.models.reload == "rolling"
    rows: list[Row] = []
    left_out = ""
    try:
        consul = open_consul(settings.consul, environ)
        registry = Registry(consul, service, settings.models.serves)
        controls = [Control(consul, service, name).key for name in CONTROLS]
        rows += [_register_key(consul, key, wanted) for key in (registry.key, *controls)]
        if rolling:
            values.setdefault("model", _current_model(registry))
    except ClusterError as error:
        # Without Consul the jobs are registered all the same, but for the one that holds the model.
        rows.append(Row("key", "mlservice/...", "refused", str(error)))
        left_out = worker if rolling else ""
    planned = plan_jobs(settings.folder / "nomad", clusters, jobs, values)
    chosen = [job for job in planned if wanted.only in (None, job.cluster)]
    for job in chosen:
        if job.name == left_out:
            rows.append(
                Row("job", job.name, "refused", "which model serves is in Consul: see above")
            )
        else:
            rows.append(register_job(job, dry_run=wanted.dry_run))
    if rolling and wanted.only != "batch" and not wanted.dry_run and not failed(rows):
        roll(clusters.services, worker, registry)  # a model that was published meanwhile
    return rows


def _register_key(consul: ConsulStore, key: str, wanted: Registration) -> Row:
    from mlservice.deploy.operator_settings import UNSET
    from mlservice.deploy.register import register_key

    return register_key(
        consul,
        key,
        UNSET,
        dry_run=wanted.dry_run,
        overwrite=wanted.overwrite_keys,
    )


def check(settings: Settings) -> None:
    """Parse every job with every var file; raises ``ClusterRefused`` for the first fault."""
    from mlservice.deploy.plan import Clusters, crons, plan_jobs
    from mlservice.deploy.shutdown_rules import check_shutdown_times
    from mlservice.deploy.variables import as_hcl, read_var_file
    from mlservice.pipeline.discovery import find_jobs

    jobs = find_jobs(settings.service.package)
    folder = settings.folder / "nomad"
    defaults = {"crons": as_hcl(crons(settings.pipeline.retrain_every))}
    for file in (None, *sorted(folder.glob("*.vars.hcl"))):
        values = defaults | (read_var_file(file) if file else {})
        for version in _VERSIONS:
            parser = _Parser(version)
            for reload in ("watch", "signal", "rolling"):
                variables = values | {"reload": as_hcl(reload)}
                for job in plan_jobs(folder, Clusters(parser, parser), jobs, variables):
                    check_shutdown_times(job.spec)


class _Parser:
    """Parses as a Nomad of some version does, without one."""

    namespace = "default"

    def __init__(self, version: str) -> None:
        self._version = version

    def parse(self, hcl: str, variables: str = "") -> JobSpec:
        """See ``Nomad.parse``."""
        from mlservice.cluster import decode_spec
        from mlservice.jobspec import HclError, parse_job

        try:
            return decode_spec(parse_job(hcl, variables, self._version))
        except HclError as error:
            words = f"{error} (Nomad {self._version})"
            raise ClusterRefused(words, 400, words) from error


def open_clusters(settings: Settings, environ: Mapping[str, str]) -> Clusters[Nomad]:
    """The two Nomads of the settings, else of the environment."""
    from mlservice.cluster import open_nomad
    from mlservice.deploy.plan import Clusters

    return Clusters(
        open_nomad(settings.batch_cluster, environ, "batch_cluster"),
        open_nomad(settings.service_cluster, environ, "service_cluster"),
    )


def variables(
    settings: Settings, environ: Mapping[str, str], env: str | None, var: Sequence[str]
) -> dict[str, str]:
    """The HCL variables, the later over the earlier: settings, environment, var file, ``--var``.

    ``NOMAD_VAR_name`` in the environment and that order are Nomad's own.
    """
    from mlservice.deploy.plan import crons, declared_variables
    from mlservice.deploy.variables import as_hcl, given, read_var_file

    folder = settings.folder / "nomad"
    kinds = declared_variables(folder)
    values = {
        "crons": as_hcl(crons(settings.pipeline.retrain_every)),
        "reload": as_hcl(settings.models.reload),
        "serves": as_hcl(settings.models.serves),
        "version": as_hcl(_version(settings.service.name)),
    }
    for name, kind in kinds.items():
        if (text := environ.get(f"{_FROM_ENVIRONMENT}{name}")) is not None:
            values[name] = given(text, kind)
    if env:
        values |= read_var_file(folder / f"{env}.vars.hcl")
    for name, text in read_pairs("--var", var).items():
        values[name] = given(text, kinds.get(name, "string"))
    return values


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "0.0.0"


def _current_model(registry: Registry) -> str:
    from mlservice.deploy.variables import as_hcl
    from mlservice.models.registry import NO_MODEL

    current = registry.current()
    return as_hcl(current.encode() if current else NO_MODEL)
