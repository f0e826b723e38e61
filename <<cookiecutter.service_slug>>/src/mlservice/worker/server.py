"""Serves a model over gRPC, with the standard health service that tells the truth.

Health follows the thing that predicts: a predict call that hangs makes the worker NOT_SERVING
while it hangs, and one that never comes back ends the process, since Python cannot end a
thread; whoever supervises the worker (Nomad, or ``mlservice serve local``) starts it anew.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import signal
from collections.abc import AsyncIterator
from typing import TypeAlias

import grpc
import grpc.aio
import uvloop
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1.health import aio as health

from mlservice.address import listen
from mlservice.observe.logs import log_as_json
from mlservice.protocol import predict_pb2, predict_pb2_grpc
from mlservice.protocol.packing import CHANNEL_OPTIONS, unpack_rows, unpack_timeouts
from mlservice.settings import Settings, WorkerSettings
from mlservice.worker.predictor import Array, Predictor, Statuses
from mlservice.worker.slot import ModelSlot

EXIT_STUCK = 70
_GRACE_SECONDS = 5.0
_WATCH_SECONDS = 0.1
# Two workers on one port would share it in silence.
_OPTIONS = [*CHANNEL_OPTIONS, ("grpc.so_reuseport", 0)]
Context: TypeAlias = (
    "grpc.aio.ServicerContext[predict_pb2.PredictRequest, predict_pb2.PredictReply]"
)
Started: TypeAlias = "asyncio.Future[tuple[Array, Statuses, str]]"
log = logging.getLogger("mlservice.worker")


def serve_worker(settings: Settings, slot: ModelSlot) -> None:
    """Serve ``slot`` until SIGTERM or SIGINT; raises ``AddressInUse``."""
    log_as_json(settings.service.name)
    gc.collect()
    gc.freeze()
    uvloop.run(_serve(settings.worker, slot))


async def _serve(settings: WorkerSettings, slot: ModelSlot) -> None:
    predictor = Predictor(slot)
    servicer = health.HealthServicer()
    server = grpc.aio.server(options=_OPTIONS)
    predict_pb2_grpc.add_PredictorServicer_to_server(PredictServicer(predictor), server)
    health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
    address = f"{settings.host}:{settings.port}"
    # gRPC's own error does not say why; this one does.
    listen("worker", settings.host, settings.port).close()
    server.add_insecure_port(address)
    await server.start()
    await servicer.set("", health_pb2.HealthCheckResponse.SERVING)
    log.info("model %s is served on %s", slot.version, address)
    watch = asyncio.create_task(_watch(predictor, servicer, settings))
    await _signalled()
    watch.cancel()
    await servicer.enter_graceful_shutdown()
    await server.stop(_GRACE_SECONDS)


class PredictServicer(predict_pb2_grpc.PredictorServicer):
    """The Predictor service of predict.proto."""

    def __init__(self, predictor: Predictor) -> None:
        """Predict by ``predictor``."""
        self._predictor = predictor

    async def Predict(  # noqa: N802  # gRPC's own name
        self, request_iterator: AsyncIterator[predict_pb2.PredictRequest], context: Context
    ) -> AsyncIterator[predict_pb2.PredictReply]:
        """See predict.proto."""
        started: asyncio.Queue[Started | None] = asyncio.Queue()
        reading = asyncio.create_task(self._start_all(request_iterator, started))
        try:
            while (scored := await started.get()) is not None:
                yield _reply(*await scored)
            await reading
        except _Refused as error:
            await context.abort(error.code, str(error))
        finally:
            reading.cancel()
            while not started.empty():
                if (left := started.get_nowait()) is not None:
                    left.cancel()

    async def _start_all(
        self,
        requests: AsyncIterator[predict_pb2.PredictRequest],
        started: asyncio.Queue[Started | None],
    ) -> None:
        """Read ahead, so that a row's time runs while it waits for its turn."""
        try:
            async for request in requests:
                started.put_nowait(self._start(request))
        finally:
            started.put_nowait(None)

    def _start(self, request: predict_pb2.PredictRequest) -> Started:
        slot = self._predictor.slot
        if request.features != slot.features:
            raise _Refused(
                grpc.StatusCode.FAILED_PRECONDITION,
                f"model {slot.version} was trained with other features: deploy gateway and model "
                "from the same commit",
            )
        try:
            rows = unpack_rows(request.rows, request.count)
            timeouts = unpack_timeouts(request.timeouts_ms)
        except ValueError as error:
            raise _Refused(grpc.StatusCode.INVALID_ARGUMENT, str(error)) from error
        if rows.shape[1] != slot.columns or len(timeouts) != len(rows):
            raise _Refused(
                grpc.StatusCode.INVALID_ARGUMENT,
                f"rows of shape {rows.shape} with {len(timeouts)} timeouts, for a model of "
                f"{slot.columns} columns",
            )
        return self._predictor.start(rows, timeouts)


class _Refused(Exception):
    """A request that ends its stream, with a status for it."""

    def __init__(self, code: grpc.StatusCode, words: str) -> None:
        super().__init__(words)
        self.code = code


def _reply(scores: Array, statuses: Statuses, version: str) -> predict_pb2.PredictReply:
    return predict_pb2.PredictReply(
        scores=scores.astype("<f8").tobytes(), statuses=statuses.tobytes(), model_version=version
    )


async def _watch(
    predictor: Predictor, servicer: health.HealthServicer, settings: WorkerSettings
) -> None:
    """Let the health service say whether the predicting thread moves."""
    served = True
    while True:
        await asyncio.sleep(_WATCH_SECONDS)
        busy_ms = predictor.busy_seconds * 1000
        if busy_ms > settings.give_up_after_ms:
            log.critical("a predict call hangs for %.1f s: the process ends", busy_ms / 1000)
            logging.shutdown()
            os._exit(EXIT_STUCK)
        moves = busy_ms <= settings.stuck_after_ms
        if moves != served:
            served = moves
            status = health_pb2.HealthCheckResponse
            await servicer.set("", status.SERVING if moves else status.NOT_SERVING)
            log.warning("predicting %s", "moves again" if moves else "hangs")


async def _signalled() -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    await stop.wait()
