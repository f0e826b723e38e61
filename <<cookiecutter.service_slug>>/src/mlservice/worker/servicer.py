"""The Predictor service of predict.proto: receives batches and replies in their order."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import TypeAlias

import grpc
import grpc.aio

from mlservice.protocol import predict_pb2, predict_pb2_grpc
from mlservice.protocol.packing import unpack_rows, unpack_timeouts
from mlservice.worker.predictor import Array, Predictor, Statuses

Context: TypeAlias = (
    "grpc.aio.ServicerContext[predict_pb2.PredictRequest, predict_pb2.PredictReply]"
)
Started: TypeAlias = "asyncio.Future[tuple[Array, Statuses, str]]"


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
                yield _make_reply(*await scored)
            await reading
        except _Refusal as error:
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
        """Read ahead, so that a row's timeout also counts while it waits."""
        try:
            async for request in requests:
                started.put_nowait(self._start(request))
        finally:
            started.put_nowait(None)

    def _start(self, request: predict_pb2.PredictRequest) -> Started:
        slot = self._predictor.slot
        if slot is None:
            raise _Refusal(grpc.StatusCode.UNAVAILABLE, "this worker has no model yet")
        if request.features != slot.features:
            raise _Refusal(
                grpc.StatusCode.FAILED_PRECONDITION,
                f"model {slot.version} was trained with other features: deploy gateway and model "
                "from the same commit",
            )
        try:
            rows = unpack_rows(request.rows, request.count)
            timeouts = unpack_timeouts(request.timeouts_ms)
        except ValueError as error:
            raise _Refusal(grpc.StatusCode.INVALID_ARGUMENT, str(error)) from error
        if rows.shape[1] != slot.columns or len(timeouts) != len(rows):
            raise _Refusal(
                grpc.StatusCode.INVALID_ARGUMENT,
                f"rows of shape {rows.shape} with {len(timeouts)} timeouts, for a model of "
                f"{slot.columns} columns",
            )
        return self._predictor.start(slot, rows, timeouts)


class _Refusal(Exception):
    """A request that ends its stream with a gRPC status."""

    def __init__(self, code: grpc.StatusCode, words: str) -> None:
        super().__init__(words)
        self.code = code


def _make_reply(scores: Array, statuses: Statuses, version: str) -> predict_pb2.PredictReply:
    return predict_pb2.PredictReply(
        scores=scores.astype("<f8").tobytes(), statuses=statuses.tobytes(), model_version=version
    )
