"""Serves a model over gRPC, with the standard health service that tells the truth.

Health follows the thing that predicts: a predict call that hangs makes the worker NOT_SERVING
while it hangs, and one that never comes back ends the process, since Python cannot end a
thread; whoever supervises the worker (Nomad, or ``mlservice serve local``) starts it anew. A
worker that has no model yet is alive (the service "live") but cannot predict (the service "").
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
_WATCH_SECONDS = 0.1
# Two workers on one port would share it in silence.
_OPTIONS = [*CHANNEL_OPTIONS, ("grpc.so_reuseport", 0)]
log = logging.getLogger("mlservice.worker")


def serve_worker(settings: Settings, slot: ModelSlot | None, fetch: Fetch | None = None) -> None:
    """Serve ``slot`` until SIGTERM or SIGINT; raises ``AddressInUse``.

    With ``fetch`` the models are those that the live file names, loaded by it.
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
    # gRPC's own error does not say why; this one does.
    listen("worker", host, port).close()
    credentials = server_credentials(settings.internal_tls, settings.folder)
    if credentials:
        server.add_secure_port(f"{host}:{port}", credentials)
    else:
        server.add_insecure_port(f"{host}:{port}")
    # A health service says SERVING until it is told otherwise.
    await servicer.set("", health_pb2.HealthCheckResponse.NOT_SERVING)
    await server.start()
    async with _following(settings, predictor, fetch):
        watch = asyncio.create_task(_watch(predictor, servicer, settings.worker))
        log.info("%s is served on %s:%d", _name(predictor.slot), host, port)
        await _signalled()
        watch.cancel()
    await servicer.enter_graceful_shutdown()
    await server.stop(SHUTDOWN.worker)


@contextlib.asynccontextmanager
async def _following(
    settings: Settings, predictor: Predictor, fetch: Fetch | None
) -> AsyncIterator[None]:
    """Take the models of the live file meanwhile, if it shall be followed."""
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
        # Python gives up its handlers before it ends, and the signal would kill it then.
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        for task in tasks:
            task.cancel()


def _name(slot: ModelSlot | None) -> str:
    return f"model {slot.version}" if slot else "no model yet"


async def _watch(
    predictor: Predictor, servicer: health.HealthServicer, settings: WorkerSettings
) -> None:
    """Let the health service say whether the predicting thread moves, and has a model."""
    said: dict[str, bool] = {}
    while True:
        busy_ms = predictor.busy_seconds * 1000
        if busy_ms > settings.give_up_after_ms:
            log.critical("a predict call hangs for %.1f s: the process ends", busy_ms / 1000)
            logging.shutdown()
            os._exit(EXIT_STUCK)
        moves = busy_ms <= settings.stuck_after_ms
        if moves != said.get("live", True):
            log.warning("predicting %s", "moves again" if moves else "hangs")
        for name, well in (("live", moves), ("", moves and predictor.slot is not None)):
            if well != said.get(name):
                said[name] = well
                status = health_pb2.HealthCheckResponse
                await servicer.set(name, status.SERVING if well else status.NOT_SERVING)
        await asyncio.sleep(_WATCH_SECONDS)


async def _signalled() -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    await stop.wait()
