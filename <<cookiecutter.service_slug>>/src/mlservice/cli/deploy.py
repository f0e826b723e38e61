"""``mlservice deploy register|check|dispatch|status|logs|stop|doctor``."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlservice.cli.common import pair, read_settings, table
from mlservice.errors import ClusterError, ClusterRefused
from mlservice.settings import Settings

if TYPE_CHECKING:
    from mlservice.cluster import Nomad
    from mlservice.deploy.plan import Clusters
    from mlservice.deploy.register import Row
    from mlservice.models import Registry

_REFUSED = 7
_LOG_BYTES = 20_000
_FROM_ENVIRONMENT = "NOMAD_VAR_"
_VERSIONS = ("1.6.10", "2.0.5")


def add_parser(verbs: Any) -> None:
    """Add the verb to the command line."""
    parser = verbs.add_parser("deploy", help="put the service on its clusters, and look after it")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    register = commands.add_parser(
        "register", help="register all jobs and Consul keys; what is there already is left alone"
    )
    _environment(register)
    register.add_argument("--dry-run", action="store_true", help="only show what would change")
    register.add_argument(
        "--only", choices=("batch", "services"), help="the jobs of one cluster alone"
    )
    register.add_argument(
        "--overwrite-keys",
        action="store_true",
        help="set Consul keys that exist to their first value",
    )
    register.set_defaults(run=_register)

    check = commands.add_parser(
        "check", help="parse the jobs with every var file, without a cluster, for Nomad 1.6 and 2.0"
    )
    check.set_defaults(run=_check)

    dispatch = commands.add_parser("dispatch", help="start a parameterized job, such as pipeline")
    dispatch.add_argument("name", metavar="JOB")
    dispatch.add_argument(
        "--meta", action="append", default=[], metavar="NAME=VALUE", help="may be repeated"
    )
    dispatch.add_argument("--payload", type=Path, metavar="FILE", help="at most 16 KiB")
    dispatch.set_defaults(run=_dispatch)

    status = commands.add_parser("status", help="show the service's jobs on both clusters")
    status.set_defaults(run=_status)

    logs = commands.add_parser("logs", help="show the end of a job's newest log")
    logs.add_argument("name", metavar="JOB")
    logs.add_argument("--stdout", action="store_true", help="standard output, not standard error")
    logs.set_defaults(run=_logs)

    stop = commands.add_parser("stop", help="stop a job")
    stop.add_argument("name", metavar="JOB")
    stop.add_argument("--children", action="store_true", help="its running children, too")
    stop.add_argument("--purge", action="store_true", help="remove it from Nomad's memory")
    stop.set_defaults(run=_stop)

    doctor = commands.add_parser("doctor", help="look whether the clusters are what is needed")
    _environment(doctor)
    doctor.set_defaults(run=_doctor)


def _environment(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--env", metavar="NAME", help="take the variables in nomad/NAME.vars.hcl (staging ...)"
    )
    parser.add_argument(
        "--var",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="one variable; may be repeated",
    )


def _register(arguments: argparse.Namespace, environ: Mapping[str, str]) -> int:
    from mlservice.cluster import open_consul
    from mlservice.deploy.plan import plan_jobs
    from mlservice.deploy.register import Row, failed, register_job
    from mlservice.door import open_job_modules
    from mlservice.jobs.job import declared_jobs
    from mlservice.models.registry import Registry

    settings = read_settings(environ)
    open_job_modules(settings.service.package)
    clusters = _clusters(settings, environ)
    values = _variables(settings, arguments, environ)
    try:
        registry = Registry(open_consul(settings.consul, environ), settings.service.name)
        rows = [_register_key(registry, arguments)]
        if settings.models.reload == "rolling":
            values.setdefault("model", _current_model(registry))
    except ClusterError as error:
        # The jobs need nothing of Consul's to be registered.
        rows = [Row("key", "mlservice/...", "refused", str(error))]
    planned = plan_jobs(settings.folder / "nomad", clusters, declared_jobs(), values)
    chosen = {None: planned, "batch": planned[:-2], "services": planned[-2:]}[arguments.only]
    rows += [register_job(job, dry_run=arguments.dry_run) for job in chosen]
    _show(rows)
    return _REFUSED if failed(rows) else 0


def _register_key(registry: Registry, arguments: argparse.Namespace) -> Row:
    from mlservice.deploy.register import register_key
    from mlservice.models.registry import NO_MODEL

    return register_key(
        registry.consul,
        registry.key,
        NO_MODEL,
        dry_run=arguments.dry_run,
        overwrite=arguments.overwrite_keys,
    )


def _show(rows: list[Row]) -> None:
    cells = [(row.kind, row.name, row.action, row.detail.partition("\n")[0]) for row in rows]
    print(table(("", "name", "", ""), cells))
    for row in rows:
        if "\n" in row.detail:
            print(f"\n{row.name}:\n" + "\n".join(f"  {line}" for line in row.detail.splitlines()))


def _check(_: argparse.Namespace, environ: Mapping[str, str]) -> int:
    from mlservice.deploy.plan import Clusters, crons, plan_jobs
    from mlservice.deploy.variables import as_hcl, read_var_file
    from mlservice.door import open_job_modules
    from mlservice.jobs.job import declared_jobs

    settings = read_settings(environ)
    open_job_modules(settings.service.package)
    folder = settings.folder / "nomad"
    defaults = {"crons": as_hcl(crons(settings.pipeline.retrain_every))}
    for file in (None, *sorted(folder.glob("*.vars.hcl"))):
        values = defaults | (read_var_file(file) if file else {})
        for version in _VERSIONS:
            parser = _Parser(version)
            for reload in ("watch", "signal", "rolling"):
                variables = values | {"reload": as_hcl(reload)}
                plan_jobs(folder, Clusters(parser, parser), declared_jobs(), variables)
    return 0


class _Parser:
    """Parses as a Nomad of some version does, without one."""

    namespace = "default"

    def __init__(self, version: str) -> None:
        self._version = version

    def parse(self, hcl: str, variables: str = "") -> dict[str, Any]:
        """See ``Nomad.parse``."""
        from mlservice.testing.nomad.hcl import HclError, parse_job

        try:
            return parse_job(hcl, variables, self._version)
        except HclError as error:
            words = f"{error} (Nomad {self._version})"
            raise ClusterRefused(words, 400, words) from error


def _dispatch(arguments: argparse.Namespace, environ: Mapping[str, str]) -> int:
    settings = read_settings(environ)
    nomad = _clusters(settings, environ).batch
    payload = arguments.payload.read_bytes() if arguments.payload else b""
    name = _full_name(settings, arguments.name)
    found = nomad.dispatch(name, payload, dict(map(pair, arguments.meta)), "")
    print(found.child)
    return 0


def _status(_: argparse.Namespace, environ: Mapping[str, str]) -> int:
    from mlservice.deploy.overview import job_states

    settings = read_settings(environ)
    clusters = _clusters(settings, environ)
    nomads = {nomad.address: nomad for nomad in (clusters.batch, clusters.services)}
    for nomad in nomads.values():
        states = list(job_states(nomad, settings.service.name))
        print(f"{nomad.address}, namespace {nomad.namespace}")
        if not states:
            print("no job of this service: run `mlservice deploy register`")
            continue
        rows = [(s.name, s.kind, s.status, s.work, s.deployment) for s in states]
        print(table(("job", "kind", "status", "work", "deployment"), rows))
    return 0


def _logs(arguments: argparse.Namespace, environ: Mapping[str, str]) -> int:
    from mlservice.deploy.overview import newest_allocation

    settings = read_settings(environ)
    nomad, name = _find(settings, environ, arguments.name)
    allocation = newest_allocation(nomad, name)
    kind = "stdout" if arguments.stdout else "stderr"
    for task in allocation.get("TaskStates") or {}:
        print(f"== {task}, allocation {allocation['ID']}, {kind}")
        print(nomad.log(allocation["ID"], task, kind, _LOG_BYTES), end="")
    return 0


def _stop(arguments: argparse.Namespace, environ: Mapping[str, str]) -> int:
    from mlservice.deploy.overview import stop_job

    settings = read_settings(environ)
    nomad, name = _find(settings, environ, arguments.name)
    for stopped in stop_job(nomad, name, children=arguments.children, purge=arguments.purge):
        print(f"stopped  {stopped}")
    return 0


def _doctor(arguments: argparse.Namespace, environ: Mapping[str, str]) -> int:
    from mlservice.cluster import open_consul
    from mlservice.deploy.doctor import examine_consul, examine_nomad
    from mlservice.models.registry import Registry

    settings = read_settings(environ)
    clusters = _clusters(settings, environ)
    driver = _variables(settings, arguments, environ).get("driver", '"docker"').strip('"')
    consul = open_consul(settings.consul, environ)
    findings = [*examine_nomad(clusters.batch, "batch cluster", driver)]
    if clusters.services.address != clusters.batch.address:
        findings += examine_nomad(clusters.services, "service cluster", driver)
    findings += examine_consul(consul, Registry(consul, settings.service.name).key)
    marks = {True: "ok", False: "WRONG", None: "?"}
    print(table(("", "", ""), [(marks[f.fine], f.subject, f.words) for f in findings]))
    return _REFUSED if any(finding.fine is False for finding in findings) else 0


def _clusters(settings: Settings, environ: Mapping[str, str]) -> Clusters[Nomad]:
    from mlservice.cluster import open_nomad
    from mlservice.deploy.plan import Clusters

    return Clusters(
        open_nomad(settings.batch_cluster, environ, "batch_cluster"),
        open_nomad(settings.service_cluster, environ, "service_cluster"),
    )


def _variables(
    settings: Settings, arguments: argparse.Namespace, environ: Mapping[str, str]
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
        "version": as_hcl(_version(settings.service.name)),
    }
    for name, kind in kinds.items():
        if (text := environ.get(f"{_FROM_ENVIRONMENT}{name}")) is not None:
            values[name] = given(text, kind)
    if arguments.env:
        values |= read_var_file(folder / f"{arguments.env}.vars.hcl")
    for name, text in map(pair, arguments.var):
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


def _find(settings: Settings, environ: Mapping[str, str], name: str) -> tuple[Nomad, str]:
    """The cluster that has the job, and the job's full name."""
    clusters = _clusters(settings, environ)
    full = _full_name(settings, name)
    for nomad in (clusters.batch, clusters.services):
        if nomad.job(full) is not None:
            return nomad, full
    raise ClusterError(f"there is no job {full} on either cluster: see `mlservice deploy status`")


def _full_name(settings: Settings, name: str) -> str:
    service = settings.service.name
    return name if name.startswith(f"{service}-") else f"{service}-{name}"
