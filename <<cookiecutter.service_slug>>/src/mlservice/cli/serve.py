"""``mlservice serve gateway|queue|worker|local|statistics|stand-ins``."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Annotated

import typer

from mlservice.cli.group import CommandGroup, environ_of, settings_of
from mlservice.cli.options import whole_number
from mlservice.errors import SettingsError

if TYPE_CHECKING:
    from mlservice.settings import Settings

commands = CommandGroup("Serve a model, on a cluster or on a laptop.")

ModelOption = Annotated[
    str | None,
    typer.Option(
        "--model",
        metavar="URI",
        help="The model's artifact (default: the models of [live] file; without one, the latest).",
    ),
]


@commands.command("gateway", example="mlservice serve gateway")
def gateway(context: typer.Context) -> None:
    """Serve predictions over HTTP; a worker computes them."""
    from mlservice.gateway.start import start_gateway

    start_gateway(settings_of(context), environ_of(context))


@commands.command("queue", example="mlservice serve queue")
def queue(context: typer.Context) -> None:
    """Answer the requests of a Kafka topic.

    A worker computes the predictions.
    """
    from mlservice.queue.server import serve_queue

    serve_queue(settings_of(context))


@commands.command("statistics", example="mlservice serve statistics")
def statistics(context: typer.Context) -> None:
    """Serve the rewards of each version, for a bandit on a laptop."""
    from mlservice.bandit.server import serve_statistics

    serve_statistics(settings_of(context))


@commands.command("stand-ins", example="mlservice serve stand-ins --port 8003")
def stand_ins(
    context: typer.Context,
    port: Annotated[
        int, typer.Option(metavar="PORT", parser=whole_number(1, 65535), help="Port on 127.0.0.1.")
    ] = 8003,
) -> None:
    """Serve fake upstreams, for the demo and for tests.

    They answer what `stand_in` in upstreams.py returns.
    """
    from mlservice.demo.fake_upstreams import serve_fake_upstreams

    serve_fake_upstreams(settings_of(context), port)


@commands.command("worker", example="mlservice serve worker --model latest")
def worker(context: typer.Context, model: ModelOption = None) -> None:
    """Compute predictions for a gateway, over gRPC."""
    from mlservice.artifacts import open_service_store
    from mlservice.models.selection import find_model
    from mlservice.owner import load_model_code, load_request_code
    from mlservice.worker.server import serve_worker
    from mlservice.worker.slot import fetch_slot, load_slot

    settings, environ = settings_of(context), environ_of(context)
    code = load_model_code(settings.service.package)
    if uri := _fixed_model(settings, model):
        serve_worker(settings, load_slot(find_model(settings, environ, uri), code))
    else:
        names = load_request_code(settings.service.package).names
        store = open_service_store(settings, environ)
        serve_worker(settings, None, partial(fetch_slot, store=store, code=code, names=names))


@commands.command("local", example="mlservice serve local")
def local(context: typer.Context, model: ModelOption = None) -> None:
    """Serve with a gateway and a worker, until Ctrl-C.

    A process that ends is started again.
    """
    from mlservice.local import LocalService
    from mlservice.models.selection import find_model

    settings, environ = settings_of(context), environ_of(context)
    uri = _fixed_model(settings, model)
    fixed = find_model(settings, environ, uri).uri if uri else None
    with LocalService(settings.folder, environ, fixed) as service:
        print(f"{service.url}/v1/predict answers; Ctrl-C stops it", flush=True)
        service.supervise()


def _fixed_model(settings: Settings, uri: str | None) -> str | None:
    """Return the one model to serve, or None for the models of the live file.

    Raises ``SettingsError`` if both are given.
    """
    if uri and settings.live.file:
        raise SettingsError(
            f"--model {uri} and [live] file = '{settings.live.file}' both name what to serve: "
            "leave out --model, or set MLSERVICE_LIVE__FILE to nothing for this process"
        )
    return None if settings.live.file else uri or "latest"
