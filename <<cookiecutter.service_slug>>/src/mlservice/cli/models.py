"""``mlservice models list|show|publish|rollback``."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from mlservice.cli.common import find_model, read_settings, table
from mlservice.settings import Settings

if TYPE_CHECKING:
    from mlservice.live import ModelRecord
    from mlservice.models import Registry


def add_parser(verbs: Any) -> None:
    """Add the verb to the command line."""
    parser = verbs.add_parser("models", help="which model serves on the cluster, and which did")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    listing = commands.add_parser("list", help="all that were published, the newest first")
    listing.set_defaults(run=_list)
    show = commands.add_parser("show", help="one of them in full")
    show.add_argument("version", metavar="VERSION", help="or its beginning")
    show.set_defaults(run=_show)
    publish = commands.add_parser(
        "publish", help="check a model and let it serve, whatever its age"
    )
    publish.add_argument("uri", metavar="URI", help="the model's artifact, or latest")
    publish.set_defaults(run=_publish)
    rollback = commands.add_parser("rollback", help="let an earlier model serve again")
    rollback.add_argument(
        "version", metavar="VERSION", nargs="?", help="default: the one before the one that serves"
    )
    rollback.set_defaults(run=_rollback)


def open_registry(settings: Settings, environ: Mapping[str, str]) -> Registry:
    """The published models of this service, in the Consul of the settings."""
    from mlservice.cluster import open_consul
    from mlservice.models import Registry

    consul = open_consul(settings.consul, environ)
    return Registry(consul, settings.service.name, settings.models.serves)


def publish_record(
    settings: Settings, environ: Mapping[str, str], record: ModelRecord, *, by_hand: bool
) -> None:
    """Publish in the way that the settings name, and say what was done."""
    from mlservice.cluster import open_nomad
    from mlservice.models import publish

    workers = None
    if settings.models.reload == "rolling":
        nomad = open_nomad(settings.service_cluster, environ, "service_cluster")
        workers = (nomad, settings.worker_job)
    result = publish(open_registry(settings, environ), record, by_hand=by_hand, workers=workers)
    print(f"{record.version}  {_MEANING[result]}")


_MEANING = {
    "published": "is published and serves from now on",
    "unchanged": "is published already",
    "late": "is not published: a newer model serves or did",
    "rolled back": "is not published: it was rolled back (`mlservice models publish` insists)",
}


def _list(_: argparse.Namespace, environ: Mapping[str, str]) -> int:
    found = open_registry(read_settings(environ), environ).published()
    rows = [
        (
            "serves" if item.serves else "",
            item.record.version,
            item.record.period,
            f"{item.record.created:%Y-%m-%d %H:%M}",
            "  ".join(f"{name} {value:.4g}" for name, value in item.record.metrics.items()),
        )
        for item in found
    ]
    print(table(("", "version", "period", "made (UTC)", "metrics"), rows))
    return 0


def _show(arguments: argparse.Namespace, environ: Mapping[str, str]) -> int:
    record = open_registry(read_settings(environ), environ).find(arguments.version)
    for name, value in record.model_dump(mode="json").items():
        print(f"{name:<10}{value}")
    return 0


def _publish(arguments: argparse.Namespace, environ: Mapping[str, str]) -> int:
    from mlservice.models import describe
    from mlservice.models.publish import check
    from mlservice.owner import load_model_code

    settings = read_settings(environ)
    artifact = find_model(settings, arguments.uri)
    check(artifact, load_model_code(settings.service.package))
    publish_record(settings, environ, describe(artifact), by_hand=True)
    return 0


def _rollback(arguments: argparse.Namespace, environ: Mapping[str, str]) -> int:
    settings = read_settings(environ)
    registry = open_registry(settings, environ)
    record = registry.find(arguments.version) if arguments.version else registry.before()
    publish_record(settings, environ, record, by_hand=True)
    return 0
