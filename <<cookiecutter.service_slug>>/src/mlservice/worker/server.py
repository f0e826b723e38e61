"""Serves a model over gRPC, with the standard health service.

Health must reflect whether the worker can predict. So the worker is NOT_SERVING while a predict
call hangs. If a call hangs too long, the process exits, because Python cannot end a thread. Its
supervisor (Nomad, or ``mlservice serve local``) then starts a new one. A worker without a model is
alive (the service "live") but cannot predict (the service "").
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import os
import signal
from collections.abc import AsyncIterator

import grpc.aio
import uvloop
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1.health import aio as health

from mlservice.address import listen
from mlservice.live import LiveFollower
from mlservice.observe import metrics
from mlservice.observe.logs import log_as_json
from mlservice.protocol import predict_pb2_grpc
from mlservice.protocol.packing import CHANNEL_OPTIONS
from mlservice.protocol.tls import server_credentials
from mlservice.settings import Settings, WorkerSettings
from mlservice.shutdown import SHUTDOWN
from mlservice.worker.predictor import Predictor
from mlservice.worker.servicer import PredictServicer
from mlservice.worker.slot import ModelSlot
from mlservice.worker.swapper import Fetch, Swapper

EXIT_STUCK = 70
_HEALTH_SECONDS = 0.1
# Otherwise two workers on one port would share it without an error.
_OPTIONS = [*CHANNEL_OPTIONS, ("grpc.so_reuseport", 0)]
log = logging.getLogger("mlservice.worker")


def serve_worker(settings: Settings, slot: ModelSlot | None, fetch: Fetch | None = None) -> None:
    """Serve ``slot`` until SIGTERM or SIGINT; raises ``AddressInUse``.

    With ``fetch``, the worker also serves each model that the live file names, loaded by ``fetch``.
    """
    log_as_json(settings.service.name)
    metrics.serve_metrics("worker", settings.worker.host, settings.worker.metrics_port)
    if slot is not None:
        metrics.MODEL.info({"version": slot.version})
    gc.collect()
    gc.freeze()
    uvloop.run(_serve(settings, Predictor(slot), fetch))


async def _serve(settings: Settings, predictor: Predictor, fetch: Fetch | None) -> None:
    servicer = health.HealthServicer()
    server = grpc.aio.server(options=_OPTIONS)
    predict_pb2_grpc.add_PredictorServicer_to_server(PredictServicer(predictor), server)
    health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
    host, port = settings.worker.host, settings.worker.port
    # gRPC's own error has no reason; this one has.
    listen("worker", host, port).close()
    credentials = server_credentials(settings.internal_tls, settings.folder)
    if credentials:
        server.add_secure_port(f"{host}:{port}", credentials)
    else:
        server.add_insecure_port(f"{host}:{port}")
    # The health service reports SERVING by default.
    await servicer.set("", health_pb2.HealthCheckResponse.NOT_SERVING)
    await server.start()
    async with _follow_live_file(settings, predictor, fetch):
        reporting = asyncio.create_task(_report_health(predictor, servicer, settings.worker))
        log.info("%s is served on %s:%d", _describe(predictor.slot), host, port)
        await _wait_for_signal()
        reporting.cancel()
    await servicer.enter_graceful_shutdown()
    await server.stop(SHUTDOWN.worker)


@contextlib.asynccontextmanager
async def _follow_live_file(
    settings: Settings, predictor: Predictor, fetch: Fetch | None
) -> AsyncIterator[None]:
    """Swap to each model that the live file names, if there is a live file."""
    path = settings.live_file
    if path is None or fetch is None:
        yield
        return
    follower = LiveFollower(path, settings.live)
    swapper = Swapper(predictor, fetch, settings.live.stagger_ms / 1000)
    follower.subscribe(swapper.follow)
    tasks = [asyncio.create_task(follower.run()), asyncio.create_task(swapper.run())]
    signal.signal(signal.SIGHUP, lambda *_: follower.look_soon())
    try:
        yield
    finally:
        # Python removes its handlers before it exits, and a late SIGHUP would kill it then.
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        for task in tasks:
            task.cancel()


def _describe(slot: ModelSlot | None) -> str:
    return f"model {slot.version}" if slot else "no model yet"


async def _report_health(
    predictor: Predictor, servicer: health.HealthServicer, settings: WorkerSettings
) -> None:
    """Report in the health service whether predict calls end, and whether there is a model."""
    reported: dict[str, bool] = {}
    while True:
        busy_ms = predictor.busy_seconds * 1000
        if busy_ms > settings.give_up_after_ms:
            log.critical("a predict call has hung for %.1f s: the process exits", busy_ms / 1000)
            logging.shutdown()
            os._exit(EXIT_STUCK)
        responsive = busy_ms <= settings.stuck_after_ms
        if responsive != reported.get("live", True):
            log.warning("predict calls %s", "end again" if responsive else "hang")
        for name, serving in (
            ("live", responsive),
            ("", responsive and predictor.slot is not None),
        ):
            if serving != reported.get(name):
                reported[name] = serving
                status = health_pb2.HealthCheckResponse
                await servicer.set(name, status.SERVING if serving else status.NOT_SERVING)
        await asyncio.sleep(_HEALTH_SECONDS)


async def _wait_for_signal() -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    await stop.wait()
