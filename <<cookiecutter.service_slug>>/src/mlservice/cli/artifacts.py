"""``mlservice artifacts list|show``."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping
from typing import Any

from mlservice.artifacts import Artifact, Store, list_artifacts, open_artifact
from mlservice.artifacts.artifact import relative_path
from mlservice.cli.common import read_settings, settings_store, table


def add_parser(verbs: Any) -> None:
    """Add the verb to the command line."""
    parser = verbs.add_parser("artifacts", help="list artifacts, or show one with its lineage")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    listing = commands.add_parser("list", help="all complete artifacts, the oldest first")
    listing.add_argument("--task", help="only those of this task")
    listing.set_defaults(run=_list)
    show = commands.add_parser("show", help="parameters, metrics, files and lineage of one")
    show.add_argument("uri", metavar="URI", help="as `artifacts list` shows it")
    show.set_defaults(run=_show)


def _list(arguments: argparse.Namespace, environ: Mapping[str, str]) -> int:
    settings = read_settings(environ)
    store = settings_store(settings)
    found = list_artifacts(store, settings.service.name)
    rows = [
        (
            f"{artifact.manifest.created:%Y-%m-%d %H:%M:%S}",
            artifact.manifest.task,
            _pairs(artifact.manifest.parameters),
            _pairs({name: f"{v:.4g}" for name, v in artifact.manifest.metrics.items()}),
            artifact.uri,
        )
        for artifact in found
        if arguments.task in (None, artifact.manifest.task)
    ]
    if rows:
        print(table(("created (UTC)", "task", "parameters", "metrics", "uri"), rows))
    else:
        print(f"no artifacts in {store.root} yet: run `mlservice pipeline run`")
    return 0


def _show(arguments: argparse.Namespace, environ: Mapping[str, str]) -> int:
    store = settings_store(read_settings(environ))
    artifact = open_artifact(store, relative_path(store, arguments.uri))
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
    print("\nlineage")
    print("\n".join(_lineage(store, artifact, 1)))
    return 0


def _lineage(store: Store, artifact: Artifact, depth: int) -> Iterator[str]:
    manifest = artifact.manifest
    yield f"{'  ' * depth}{manifest.task}({_pairs(manifest.parameters)})  {artifact.uri}"
    for uris in manifest.inputs.values():
        for uri in uris:
            yield from _lineage(store, open_artifact(store, relative_path(store, uri)), depth + 1)
    if not manifest.inputs:
        versions = {
            name: version
            for name, version in manifest.environment.items()
            if name not in ("python", "platform")
        }
        yield f"{'  ' * (depth + 1)}raw data, read with {_pairs(versions)}"


def _pairs(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{name}={value}" for name, value in values.items())
