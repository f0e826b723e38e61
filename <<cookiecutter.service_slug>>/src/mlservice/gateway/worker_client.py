"""The gateway's view of one worker: calls it, and knows whether it can predict.

Health is asked for, not assumed: every half second the standard gRPC health service must say
SERVING, within a time limit, so that a worker that died, hangs or refuses is known in a second
and its callers get 503 at once instead of waiting for their deadline.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable

import grpc
import grpc.aio
from grpc_health.v1 import health_pb2, health_pb2_grpc

from mlservice.errors import RequestRefused, Unavailable
from mlservice.gateway.batch_stream import BatchStream, StreamEnded
from mlservice.protocol import predict_pb2_grpc
from mlservice.protocol.packing import CHANNEL_OPTIONS
from mlservice.protocol.predict_pb2 import PredictReply, PredictRequest

_POLL_SECONDS = 0.5
_POLL_TIMEOUT = 1.0
_OPTIONS = [
    *CHANNEL_OPTIONS,
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 500),
]
log = logging.getLogger("mlservice.gateway")


class WorkerLost(Unavailable):
    """The worker did not predict this batch; another one may."""


class WorkerClient:
    """A worker at one address (host:port); belongs to one event loop."""

    def __init__(self, address: str, changed: Callable[[], None]) -> None:
        """Open the channel and begin to watch the worker's health.

        ``changed`` is called whenever the worker can predict again or no more.
        """
        self.address = address
        self.in_flight = 0
        self.trouble: str | None = f"the worker at {address} has not been asked yet"
        self._changed = changed
        self._stream: BatchStream | None = None
        self._channel = grpc.aio.insecure_channel(address, options=_OPTIONS)
        self._stub = predict_pb2_grpc.PredictorStub(self._channel)
        self._health = health_pb2_grpc.HealthStub(self._channel)
        self._watcher = asyncio.create_task(self._watch())

    async def retire(self) -> None:
        """Close when the batches that it holds are answered; give it no more."""
        self._watcher.cancel()
        if self._stream is not None:
            self._stream.finish()
        while self.in_flight:
            await asyncio.sleep(_POLL_SECONDS)
        await self.close()

    async def close(self) -> None:
        """Stop watching and close the channel."""
        self._watcher.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._watcher
        if self._stream is not None:
            await self._stream.close()
        await self._channel.close()

    async def predict(self, request: PredictRequest, timeout: float) -> PredictReply:
        """The reply to ``request`` within ``timeout`` seconds.

        Raises ``WorkerLost`` where another worker may answer it, ``RequestRefused`` with status
        504 past the time and 500 where the worker could not predict.
        """
        self.in_flight += 1
        try:
            async with asyncio.timeout(timeout):
                return await self._open_stream().ask(request)
        except TimeoutError as error:
            raise RequestRefused(
                504, "deadline_exceeded", "the worker did not answer in time"
            ) from error
        except StreamEnded as error:
            raise WorkerLost(f"the worker at {self.address} ended its stream") from error
        except grpc.aio.AioRpcError as error:
            raise self._translated(error) from error
        finally:
            self.in_flight -= 1

    def _open_stream(self) -> BatchStream:
        """The stream to the worker; a new one where the last one has ended."""
        if self._stream is None or self._stream.ended:
            self._stream = BatchStream(self._stub.Predict)
        return self._stream

    def _translated(self, error: grpc.aio.AioRpcError) -> RequestRefused:
        code = error.code()
        if code in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED):
            self._note("does not answer")
            return WorkerLost(f"the worker at {self.address} does not answer")
        log.error("the worker at %s refused a batch: %s %s", self.address, code, error.details())
        if code is grpc.StatusCode.FAILED_PRECONDITION:
            return WorkerLost("the worker's model was trained with other features")
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

    def _note(self, words: str | None) -> None:
        if words and self._stream is not None:
            self._stream.finish()  # a worker that stops waits until its streams end
        before = self.trouble
        self.trouble = words and f"the worker at {self.address} {words}"
        if self.trouble != before:
            level = logging.WARNING if words else logging.INFO
            log.log(level, "the worker at %s %s", self.address, words or "is ready")
            self._changed()
