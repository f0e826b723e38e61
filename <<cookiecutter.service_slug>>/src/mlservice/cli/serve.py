"""``mlservice serve gateway|queue|worker|local|statistics|stand-ins``."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from functools import partial
from typing import Any

from mlservice.cli.common import find_model, read_settings, settings_store
from mlservice.errors import SettingsError
from mlservice.owner import load_model_code, load_request_code
from mlservice.settings import Settings


def add_parser(verbs: Any) -> None:
    """Add the verb to the command line."""
    parser = verbs.add_parser("serve", help="serve a model: gateway, worker, or both on a laptop")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    gateway = commands.add_parser("gateway", help="the HTTP side")
    gateway.set_defaults(run=_gateway)
    queue = commands.add_parser("queue", help="the same answers behind a Kafka topic")
    queue.set_defaults(run=_queue)
    statistics = commands.add_parser(
        "statistics", help="what each version's answers were worth, for a bandit on a laptop"
    )
    statistics.set_defaults(run=_statistics)
    stand_ins = commands.add_parser(
        "stand-ins", help="servers that answer for the upstreams, as upstreams.py says"
    )
    stand_ins.add_argument("--port", type=int, default=8003, help="port on 127.0.0.1 (8003)")
    stand_ins.set_defaults(run=_stand_ins)
    for name, run, text in (
        ("worker", _worker, "the predicting side"),
        ("local", _local, "both, started anew where one dies; Ctrl-C stops them"),
    ):
        command = commands.add_parser(name, help=text)
        command.add_argument(
            "--model",
            metavar="URI",
            help="the model's artifact (default: those of [live] file, or without one the latest)",
        )
        command.set_defaults(run=run)


def _gateway(_: argparse.Namespace, environ: Mapping[str, str]) -> int:
    from mlservice.gateway.server import serve_gateway

    serve_gateway(read_settings(environ))
    return 0


def _queue(_: argparse.Namespace, environ: Mapping[str, str]) -> int:
    from mlservice.queue.server import serve_queue

    serve_queue(read_settings(environ))
    return 0


def _statistics(_: argparse.Namespace, environ: Mapping[str, str]) -> int:
    from mlservice.bandit.server import serve_statistics

    serve_statistics(read_settings(environ))
    return 0


def _stand_ins(arguments: argparse.Namespace, environ: Mapping[str, str]) -> int:
    from mlservice.demo.fake_upstreams import serve_fake_upstreams

    serve_fake_upstreams(read_settings(environ), arguments.port)
    return 0


def _worker(arguments: argparse.Namespace, environ: Mapping[str, str]) -> int:
    from mlservice.worker.server import serve_worker
    from mlservice.worker.slot import fetch_slot, load_slot

    settings = read_settings(environ)
    side = load_model_code(settings.service.package)
    if uri := _fixed_model(settings, arguments.model):
        serve_worker(settings, load_slot(find_model(settings, uri), side))
    else:
        names = load_request_code(settings.service.package).names
        store = settings_store(settings)
        serve_worker(settings, None, partial(fetch_slot, store=store, side=side, names=names))
    return 0


def _local(arguments: argparse.Namespace, environ: Mapping[str, str]) -> int:
    from mlservice.local import LocalService

    settings = read_settings(environ)
    uri = _fixed_model(settings, arguments.model)
    model = find_model(settings, uri).uri if uri else None
    with LocalService(settings.folder, environ, model) as service:
        gateway = settings.gateway
        print(f"http://{gateway.host}:{gateway.port}/v1/predict answers; Ctrl-C stops it")
        service.supervise()
    return 0


def _fixed_model(settings: Settings, uri: str | None) -> str | None:
    """The one model to serve, or None for those of the live file.

    Raises ``SettingsError`` where both are given.
    """
    if uri and settings.live.file:
        raise SettingsError(
            f"--model {uri} and [live] file = '{settings.live.file}' both say what to serve: leave "
            "out --model, or set MLSERVICE_LIVE__FILE to nothing for this process"
        )
    return None if settings.live.file else uri or "latest"
