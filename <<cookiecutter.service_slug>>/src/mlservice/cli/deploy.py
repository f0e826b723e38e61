"""``mlservice deploy register|check|dispatch|status|logs|stop|doctor``."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlservice.cli.common import pair, read_settings, table
from mlservice.cli.deploy_jobs import REFUSED, check, open_clusters, register, variables
from mlservice.errors import ClusterError
from mlservice.settings import Settings

if TYPE_CHECKING:
    from mlservice.cluster import Nomad

_LOG_BYTES = 20_000


def add_parser(verbs: Any) -> None:
    """Add the verb to the command line."""
    parser = verbs.add_parser("deploy", help="put the service on its clusters, and look after it")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    command = commands.add_parser(
        "register", help="register all jobs and Consul keys; what is there already is left alone"
    )
    _environment(command)
    command.add_argument("--dry-run", action="store_true", help="only show what would change")
    command.add_argument(
        "--only", choices=("batch", "services"), help="the jobs of one cluster alone"
    )
    command.add_argument(
        "--overwrite-keys",
        action="store_true",
        help="set Consul keys that exist to their first value",
    )
    command.set_defaults(run=register)

    command = commands.add_parser(
        "check", help="parse the jobs with every var file, without a cluster, for Nomad 1.6 and 2.0"
    )
    command.set_defaults(run=check)

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


def _dispatch(arguments: argparse.Namespace, environ: Mapping[str, str]) -> int:
    settings = read_settings(environ)
    nomad = open_clusters(settings, environ).batch
    payload = arguments.payload.read_bytes() if arguments.payload else b""
    name = _full_name(settings, arguments.name)
    found = nomad.dispatch(name, payload, dict(map(pair, arguments.meta)), "")
    print(found.child)
    return 0


def _status(_: argparse.Namespace, environ: Mapping[str, str]) -> int:
    from mlservice.deploy.overview import job_states

    settings = read_settings(environ)
    clusters = open_clusters(settings, environ)
    nomads = {nomad.place: nomad for nomad in (clusters.batch, clusters.services)}
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
    for task in allocation.tasks:
        print(f"== {task}, allocation {allocation.id}, {kind}")
        print(nomad.log(allocation.id, task, kind, _LOG_BYTES), end="")
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
    clusters = open_clusters(settings, environ)
    driver = variables(settings, arguments, environ).get("driver", '"docker"').strip('"')
    consul = open_consul(settings.consul, environ)
    findings = [*examine_nomad(clusters.batch, "batch cluster", driver)]
    if clusters.services.place != clusters.batch.place:
        findings += examine_nomad(clusters.services, "service cluster", driver)
    findings += examine_consul(consul, Registry(consul, settings.service.name).key)
    marks = {True: "ok", False: "WRONG", None: "?"}
    print(table(("", "", ""), [(marks[f.fine], f.subject, f.words) for f in findings]))
    return REFUSED if any(finding.fine is False for finding in findings) else 0


def _find(settings: Settings, environ: Mapping[str, str], name: str) -> tuple[Nomad, str]:
    """The cluster that has the job, and the job's full name."""
    clusters = open_clusters(settings, environ)
    full = _full_name(settings, name)
    for nomad in (clusters.batch, clusters.services):
        if nomad.job(full) is not None:
            return nomad, full
    raise ClusterError(f"there is no job {full} on either cluster: see `mlservice deploy status`")


def _full_name(settings: Settings, name: str) -> str:
    service = settings.service.name
    return name if name.startswith(f"{service}-") else f"{service}-{name}"
