"""The gateway's view of the worker: calls it, and knows whether it can predict.

Health is asked for, not assumed: every half second the standard gRPC health service must say
SERVING, within a time limit, so that a worker that died, hangs or refuses is known in a second
and its callers get 503 at once instead of waiting for their deadline.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Sequence

import grpc
import grpc.aio
from grpc_health.v1 import health_pb2, health_pb2_grpc

from mlservice.errors import RequestRefused, Unavailable
from mlservice.gateway.batch_stream import BatchStream, StreamEnded
from mlservice.gateway.coalescer import Reply
from mlservice.protocol import predict_pb2, predict_pb2_grpc
from mlservice.protocol.packing import (
    CHANNEL_OPTIONS,
    features_digest,
    pack_timeouts,
    unpack_scores,
)

_POLL_SECONDS = 0.5
_POLL_TIMEOUT = 1.0
_OPTIONS = [
    *CHANNEL_OPTIONS,
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 500),
]
log = logging.getLogger("mlservice.gateway")


class WorkerClient:
    """A worker at one address (host:port)."""

    def __init__(self, address: str, names: Sequence[str]) -> None:
        """Keep the address and the names of the features that rows will hold."""
        self.address = address
        self._digest = features_digest(names)
        self._stream: BatchStream | None = None
        self._trouble: str | None = "has not been asked yet"

    async def __aenter__(self) -> WorkerClient:
        """Open the channel and begin to watch the worker's health."""
        self._channel = grpc.aio.insecure_channel(self.address, options=_OPTIONS)
        self._stub = predict_pb2_grpc.PredictorStub(self._channel)
        self._health = health_pb2_grpc.HealthStub(self._channel)
        self._watcher = asyncio.create_task(self._watch())
        return self

    async def __aexit__(self, *_: object) -> None:
        """Stop watching and close the channel."""
        self._watcher.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._watcher
        if self._stream is not None:
            await self._stream.close()
        await self._channel.close()

    @property
    def trouble(self) -> str | None:
        """Why the worker cannot predict, or None where it can."""
        return self._trouble and f"the worker at {self.address} {self._trouble}"

    async def predict(
        self, rows: Sequence[bytes], timeouts_ms: Sequence[int], timeout: float
    ) -> Reply:
        """Send packed rows, each with the time it has left; see ``coalescer.Send``."""
        request = predict_pb2.PredictRequest(
            rows=b"".join(rows),
            count=len(rows),
            timeouts_ms=pack_timeouts(timeouts_ms),
            features=self._digest,
        )
        try:
            async with asyncio.timeout(timeout):
                reply = await self._open_stream().ask(request)
        except TimeoutError as error:
            raise RequestRefused(
                504, "deadline_exceeded", "the worker did not answer in time"
            ) from error
        except StreamEnded as error:
            raise Unavailable(f"the worker at {self.address} ended its stream") from error
        except grpc.aio.AioRpcError as error:
            raise self._translated(error) from error
        return Reply(unpack_scores(reply.scores), reply.statuses, reply.model_version)

    def _open_stream(self) -> BatchStream:
        """The stream to the worker; a new one where the last one has ended."""
        if self._stream is None or self._stream.ended:
            self._stream = BatchStream(self._stub.Predict)
        return self._stream

    def _translated(self, error: grpc.aio.AioRpcError) -> RequestRefused:
        code = error.code()
        if code in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED):
            self._note("does not answer")
            return Unavailable(f"the worker at {self.address} does not answer")
        log.error("the worker at %s refused a batch: %s %s", self.address, code, error.details())
        if code is grpc.StatusCode.FAILED_PRECONDITION:
            return Unavailable("the worker's model was trained with other features")
        return RequestRefused(500, "prediction_failed", "the worker could not predict")

    async def _watch(self) -> None:
        request = health_pb2.HealthCheckRequest()
        while True:
            try:
                reply = await self._health.Check(request, timeout=_POLL_TIMEOUT)
                serving = reply.status == health_pb2.HealthCheckResponse.SERVING
                self._note(None if serving else "says that it cannot predict")
            except grpc.aio.AioRpcError as error:
                self._note(f"does not answer ({error.code().name})")
            await asyncio.sleep(_POLL_SECONDS)

    def _note(self, trouble: str | None) -> None:
        if trouble and self._stream is not None:
            self._stream.finish()  # a worker that stops waits until its streams end
        if trouble != self._trouble:
            level = logging.WARNING if trouble else logging.INFO
            log.log(level, "the worker at %s %s", self.address, trouble or "is ready")
        self._trouble = trouble
