"""``mlservice artifacts list|show``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mlservice.cli.group import CommandGroup, environ_of, settings_of
from mlservice.cli.options import JsonOption
from mlservice.cli.output import print_json, print_table

if TYPE_CHECKING:
    from mlservice.artifacts import Artifact
    from mlservice.artifacts.lineage import Lineage

commands = CommandGroup("List data sets and models, or show one with its lineage.")


@commands.command("list", example="mlservice artifacts list --task Train")
def list_all(
    context: typer.Context,
    task: Annotated[
        str | None, typer.Option(metavar="TASK", help="List only the artifacts of this task.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """List all complete artifacts, the oldest first."""
    from mlservice.artifacts import list_artifacts, open_service_store

    settings = settings_of(context)
    store = open_service_store(settings, environ_of(context))
    found = list_artifacts(store, settings.service.name)
    chosen = [artifact for artifact in found if task in (None, artifact.manifest.task)]
    if as_json:
        print_json([_summary(artifact) for artifact in chosen])
    elif chosen:
        header = ("created (UTC)", "task", "parameters", "metrics", "uri")
        print_table(header, [_row(artifact) for artifact in chosen])
    else:
        print(_none_found(store.root, task, found))


@commands.command(
    "show", example="mlservice artifacts show file:///srv/artifacts/flights/Train/code=..."
)
def show(
    context: typer.Context,
    uri: Annotated[str, typer.Argument(metavar="URI", help="As `artifacts list` shows it.")],
    as_json: JsonOption = False,
) -> None:
    """Show one artifact with its files and its lineage."""
    from mlservice.artifacts import open_artifact, open_service_store
    from mlservice.artifacts.artifact import relative_path
    from mlservice.artifacts.lineage import read_lineage

    store = open_service_store(settings_of(context), environ_of(context))
    artifact = open_artifact(store, relative_path(store, uri))
    lineage = read_lineage(store, artifact)
    if as_json:
        print_json({**_details(artifact), "lineage": asdict(lineage)})
    else:
        _print_details(artifact)
        print("\nlineage")
        print("\n".join(_lines(lineage, 1)))


def _none_found(root: str, task: str | None, found: Sequence[Artifact]) -> str:
    if not found:
        return f"no artifacts in {root} yet: run `mlservice pipeline run`"
    tasks = ", ".join(sorted({artifact.manifest.task for artifact in found}))
    return f"no artifacts of --task {task} in {root}: there are some of {tasks}"


def _row(artifact: Artifact) -> tuple[str, ...]:
    manifest = artifact.manifest
    return (
        f"{manifest.created:%Y-%m-%d %H:%M:%S}",
        manifest.task,
        _pairs(manifest.parameters),
        _pairs({name: f"{value:.4g}" for name, value in manifest.metrics.items()}),
        artifact.uri,
    )


def _summary(artifact: Artifact) -> dict[str, Any]:
    manifest = artifact.manifest
    return {
        "uri": artifact.uri,
        "task": manifest.task,
        "created": manifest.created.isoformat(),
        "parameters": dict(manifest.parameters),
        "metrics": dict(manifest.metrics),
    }


def _details(artifact: Artifact) -> dict[str, Any]:
    manifest = artifact.manifest
    files = {
        name: {"size": entry.size, "sha256": entry.sha256} for name, entry in manifest.files.items()
    }
    return {
        **_summary(artifact),
        "job": manifest.job,
        "seconds": manifest.seconds,
        "code": manifest.code,
        "git_commit": manifest.git_commit,
        "environment": dict(manifest.environment),
        "files": files,
    }


def _print_details(artifact: Artifact) -> None:
    manifest = artifact.manifest
    print(f"uri         {artifact.uri}")
    print(f"task        {manifest.task} (job {manifest.job}, {manifest.seconds:.1f} s)")
    print(f"created     {manifest.created:%Y-%m-%d %H:%M:%S} UTC")
    print(f"code        {manifest.code}, git commit {manifest.git_commit or 'unknown'}")
    for title, values in (
        ("parameters", manifest.parameters),
        ("metrics", manifest.metrics),
        ("environment", manifest.environment),
    ):
        print(f"\n{title}")
        for name, value in values.items():
            print(f"  {name:<20}  {value}")
    print("\nfiles")
    for name, entry in manifest.files.items():
        print(f"  {name:<20}  {entry.size:>10} bytes  sha256 {entry.sha256}")


def _lines(lineage: Lineage, depth: int) -> Iterator[str]:
    yield f"{'  ' * depth}{lineage.task}({_pairs(lineage.parameters)})  {lineage.uri}"
    for below in lineage.inputs:
        yield from _lines(below, depth + 1)
    if not lineage.inputs:
        versions = {
            name: version
            for name, version in lineage.environment.items()
            if name not in ("python", "platform")
        }
        yield f"{'  ' * (depth + 1)}raw data, read with {_pairs(versions)}"


def _pairs(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{name}={value}" for name, value in values.items())
