"""``mlservice serve gateway|worker|local``."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import Any

from mlservice.artifacts import Artifact, list_artifacts, open_artifact
from mlservice.artifacts.artifact import relative_path
from mlservice.cli.common import read_settings, settings_store
from mlservice.door import open_model_side, open_pipeline
from mlservice.errors import ArtifactNotFound
from mlservice.settings import Settings


def add_parser(verbs: Any) -> None:
    """Add the verb to the command line."""
    parser = verbs.add_parser("serve", help="serve a model: gateway, worker, or both on a laptop")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    gateway = commands.add_parser("gateway", help="the HTTP side")
    gateway.set_defaults(run=_gateway)
    for name, run, text in (
        ("worker", _worker, "the predicting side"),
        ("local", _local, "both, started anew where one dies; Ctrl-C stops them"),
    ):
        command = commands.add_parser(name, help=text)
        command.add_argument(
            "--model",
            metavar="URI",
            default="latest",
            help="the model's artifact (default: latest)",
        )
        command.set_defaults(run=run)


def find_model(settings: Settings, uri: str) -> Artifact:
    """The artifact at ``uri``, or for "latest" that of the latest period.

    Raises ``ArtifactNotFound`` where there is none.
    """
    store = settings_store(settings)
    if uri != "latest":
        return open_artifact(store, relative_path(store, uri))
    task = open_pipeline(settings.service.package).get_task_family()
    found = list_artifacts(store, f"{settings.service.name}/{task}")
    if not found:
        raise ArtifactNotFound(
            f"there is no model in {store.root} yet: run `mlservice pipeline run`, or name one by "
            "--model URI"
        )
    return max(found, key=lambda a: (str(a.manifest.parameters.get("period")), a.manifest.created))


def _gateway(_: argparse.Namespace, environ: Mapping[str, str]) -> int:
    from mlservice.gateway.server import serve_gateway

    serve_gateway(read_settings(environ))
    return 0


def _worker(arguments: argparse.Namespace, environ: Mapping[str, str]) -> int:
    from mlservice.worker.server import serve_worker
    from mlservice.worker.slot import load_slot

    settings = read_settings(environ)
    side = open_model_side(settings.service.package)
    serve_worker(settings, load_slot(find_model(settings, arguments.model), side))
    return 0


def _local(arguments: argparse.Namespace, environ: Mapping[str, str]) -> int:
    from mlservice.local import LocalService

    settings = read_settings(environ)
    model = find_model(settings, arguments.model).uri
    with LocalService(settings.folder, environ, model) as service:
        gateway = settings.gateway
        print(f"http://{gateway.host}:{gateway.port}/v1/predict answers; Ctrl-C stops it")
        service.supervise()
    return 0
