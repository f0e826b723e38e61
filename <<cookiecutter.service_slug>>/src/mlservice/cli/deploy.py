"""``mlservice deploy register|check|dispatch|status|logs|stop|doctor``."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from mlservice.cli.group import CommandGroup, environ_of, settings_of
from mlservice.cli.options import JsonOption, read_pairs
from mlservice.cli.output import print_json, print_table
from mlservice.errors import ClusterError, SettingsError

if TYPE_CHECKING:
    from mlservice.cluster import Nomad
    from mlservice.deploy.clusters import ClusterName, Clusters
    from mlservice.deploy.register import Row

commands = CommandGroup("Put the service on its clusters, and see how it runs.")

_REFUSED = ClusterError.exit_code
_LOG_BYTES = 20_000

EnvOption = Annotated[
    str | None,
    typer.Option(
        "--env", metavar="NAME", help="Take the variables in nomad/NAME.vars.hcl, such as staging."
    ),
]
VarOption = Annotated[
    list[str] | None,
    typer.Option("--var", metavar="NAME=VALUE", help="One variable; may be repeated."),
]
JobArgument = Annotated[
    str, typer.Argument(metavar="JOB", help="The job, with or without the service's name.")
]


def _read_only(text: str) -> str:
    if text not in ("batch", "services"):
        raise typer.BadParameter(f"'{text}': give batch or services")
    return text


DryRunOption = Annotated[bool, typer.Option("--dry-run", help="Only show what would change.")]
OnlyOption = Annotated[
    str | None,
    typer.Option(
        "--only",
        metavar="batch|services",
        parser=_read_only,
        help="Only the jobs of one cluster.",
        autocompletion=lambda: ["batch", "services"],
    ),
]
OverwriteKeysOption = Annotated[
    bool,
    typer.Option("--overwrite-keys", help="Reset Consul keys that exist to their first value."),
]


@commands.command("register", example="mlservice deploy register --env staging --dry-run")
def register(
    context: typer.Context,
    env: EnvOption = None,
    var: VarOption = None,
    dry_run: DryRunOption = False,
    only: OnlyOption = None,
    overwrite_keys: OverwriteKeysOption = False,
    as_json: JsonOption = False,
) -> None:
    """Register all jobs and Consul keys.

    What is registered already stays as it is.
    """
    from mlservice.deploy.register import failed
    from mlservice.deploy.service import Registration, register_service

    variables = _variables(context, env, var)
    cluster = cast("ClusterName | None", only)
    wanted = Registration(variables, cluster, overwrite_keys=overwrite_keys, dry_run=dry_run)
    rows = register_service(settings_of(context), environ_of(context), wanted)
    if as_json:
        print_json([asdict(row) for row in rows])
    else:
        _print_rows(rows)
    if failed(rows):
        raise typer.Exit(_REFUSED)


@commands.command("check", example="mlservice deploy check")
def check(context: typer.Context) -> None:
    """Parse the jobs with every var file, without a cluster.

    They are parsed as Nomad 1.6 and 2.0 do.
    """
    from mlservice.deploy.check import check_jobs

    check_jobs(settings_of(context))


@commands.command("dispatch", example="mlservice deploy dispatch pipeline --meta period=2013-10-07")
def dispatch(
    context: typer.Context,
    name: JobArgument,
    meta: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=VALUE", help="Meta of the job; may be repeated."),
    ] = None,
    payload: Annotated[
        Path | None, typer.Option(metavar="FILE", help="The job's payload, at most 16 KiB.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Start a parameterized job, such as pipeline.

    Prints the child that runs it.
    """
    from mlservice.deploy.clusters import full_name

    nomad = _clusters(context).batch
    job = full_name(settings_of(context).service.name, name)
    child = nomad.dispatch(job, _payload(payload), read_pairs("--meta", meta), "").child
    print_json({"child": child}) if as_json else print(child)


@commands.command("status", example="mlservice deploy status")
def status(context: typer.Context, as_json: JsonOption = False) -> None:
    """Show the service's jobs on both clusters."""
    from mlservice.deploy.overview import job_states

    settings = settings_of(context)
    clusters = _clusters(context)
    nomads = {nomad.place: nomad for nomad in (clusters.batch, clusters.services)}.values()
    if as_json:
        found = [(nomad, job_states(nomad, settings.service.name)) for nomad in nomads]
        print_json([_cluster_as_dict(nomad, map(asdict, states)) for nomad, states in found])
        return
    for nomad in nomads:
        states = list(job_states(nomad, settings.service.name))
        print(f"{nomad.address}, namespace {nomad.namespace}")
        if not states:
            print("no job of this service: run `mlservice deploy register`")
            continue
        rows = [(s.name, s.kind, s.status, s.work, s.deployment) for s in states]
        print_table(("job", "kind", "status", "work", "deployment"), rows)


@commands.command("logs", example="mlservice deploy logs gateway")
def logs(
    context: typer.Context,
    name: JobArgument,
    stdout: Annotated[
        bool, typer.Option("--stdout", help="Show standard output, not standard error.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Show the end of a job's newest log."""
    from mlservice.deploy.overview import newest_allocation

    nomad, job = _find(context, name)
    allocation = newest_allocation(nomad, job)
    kind = "stdout" if stdout else "stderr"
    texts = {task: nomad.log(allocation.id, task, kind, _LOG_BYTES) for task in allocation.tasks}
    if as_json:
        print_json({"allocation": allocation.id, "stream": kind, "tasks": texts})
        return
    for task, text in texts.items():
        print(f"== {task}, allocation {allocation.id}, {kind}")
        print(text, end="")


@commands.command("stop", example="mlservice deploy stop pipeline --children")
def stop(
    context: typer.Context,
    name: JobArgument,
    children: Annotated[
        bool, typer.Option("--children", help="Stop its running children as well.")
    ] = False,
    purge: Annotated[
        bool, typer.Option("--purge", help="Remove the job from Nomad's memory as well.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Stop a job."""
    from mlservice.deploy.overview import stop_job

    nomad, job = _find(context, name)
    stopped = stop_job(nomad, job, children=children, purge=purge)
    if as_json:
        print_json({"stopped": stopped})
    else:
        print("\n".join(f"stopped  {each}" for each in stopped))


@commands.command("doctor", example="mlservice deploy doctor --env production")
def doctor(
    context: typer.Context,
    env: EnvOption = None,
    var: VarOption = None,
    as_json: JsonOption = False,
) -> None:
    """Check that the clusters have what the service needs.

    Names what is missing, and what to do about it.
    """
    from mlservice.deploy.service import examine_service

    variables = _variables(context, env, var)
    findings = examine_service(settings_of(context), environ_of(context), variables)
    if as_json:
        print_json([asdict(finding) for finding in findings])
    else:
        marks = {True: "ok", False: "WRONG", None: "?"}
        print_table(("", "", ""), [(marks[f.fine], f.subject, f.words) for f in findings])
    if any(finding.fine is False for finding in findings):
        raise typer.Exit(_REFUSED)


def _print_rows(rows: Sequence[Row]) -> None:
    cells = [(row.kind, row.name, row.action, row.detail.partition("\n")[0]) for row in rows]
    print_table(("", "name", "", ""), cells)
    for row in rows:
        if "\n" in row.detail:
            print(f"\n{row.name}:\n" + "\n".join(f"  {line}" for line in row.detail.splitlines()))


def _cluster_as_dict(nomad: Nomad, jobs: Iterable[dict[str, str]]) -> dict[str, Any]:
    return {"address": nomad.address, "namespace": nomad.namespace, "jobs": list(jobs)}


def _payload(file: Path | None) -> bytes:
    if file is None:
        return b""
    try:
        return file.read_bytes()
    except OSError as error:
        raise SettingsError(f"--payload {file}: cannot be read: {error.strerror}") from error


def _variables(
    context: typer.Context, env: str | None, var: Sequence[str] | None
) -> dict[str, str]:
    from mlservice.deploy.service_variables import service_variables

    given = read_pairs("--var", var)
    return service_variables(settings_of(context), environ_of(context), env, given)


def _clusters(context: typer.Context) -> Clusters[Nomad]:
    from mlservice.deploy.clusters import open_clusters

    return open_clusters(settings_of(context), environ_of(context))


def _find(context: typer.Context, name: str) -> tuple[Nomad, str]:
    """Return the cluster that has the job, and the job's full name."""
    from mlservice.deploy.clusters import locate_job

    return locate_job(_clusters(context), settings_of(context).service.name, name)
