"""The client of one worker: sends it batches, and knows whether it can predict.

Every half second the standard gRPC health service must answer SERVING within a second. So a worker
that died, hangs or refuses is detected within about a second, and its callers fail at once instead
of waiting for their deadline. A worker that reports healthy but
fails batches can be ejected anyway.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable
from time import perf_counter

import grpc
import grpc.aio
from grpc_health.v1 import health_pb2, health_pb2_grpc

from mlservice.errors import (
    DeadlineExceeded,
    PredictionFailed,
    RequestError,
    WorkerBroke,
    WorkerLost,
)
from mlservice.prediction.workers.stream import BatchStream, StreamEnded
from mlservice.protocol import predict_pb2_grpc
from mlservice.protocol.packing import CHANNEL_OPTIONS
from mlservice.protocol.predict_pb2 import PredictReply, PredictRequest
from mlservice.protocol.tls import WorkerIdentity

_POLL_SECONDS = 0.5
_POLL_TIMEOUT = 1.0
_EJECTION_SECONDS = 5.0
_MAX_EJECTION_SECONDS = 60.0
_OPTIONS = [
    *CHANNEL_OPTIONS,
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 500),
]
log = logging.getLogger("mlservice.gateway")


class WorkerClient:
    """A worker at one address (host:port); belongs to one event loop."""

    def __init__(
        self,
        address: str,
        version: str,
        on_change: Callable[[], None],
        identity: WorkerIdentity | None,
    ) -> None:
        """Open the channel and begin to watch the worker's health.

        ``on_change`` is called whenever the worker becomes ready or stops being ready.
        """
        self.address = address
        self.version = version
        self.in_flight = 0
        self.failures = 0
        self.average_seconds = 0.0
        """Moving average of the seconds that a batch takes; 0 before the first."""
        self.unavailable_reason: str | None = f"the worker at {address} has not been asked yet"
        self._on_change = on_change
        self._ejection = _EJECTION_SECONDS
        self._ejected_until = 0.0
        self._stream: BatchStream | None = None
        self._channel = _open_channel(address, identity)
        self._stub = predict_pb2_grpc.PredictorStub(self._channel)
        self._health = health_pb2_grpc.HealthStub(self._channel)
        self._health_task = asyncio.create_task(self._check_health())

    async def retire(self) -> None:
        """Send it nothing more, and close when its batches are answered."""
        self._health_task.cancel()
        if self._stream is not None:
            self._stream.finish()
        while self.in_flight:
            await asyncio.sleep(_POLL_SECONDS)
        await self.close()

    async def close(self) -> None:
        """Stop watching and close the channel."""
        self._health_task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._health_task
        if self._stream is not None:
            await self._stream.close()
        await self._channel.close()

    async def predict(self, request: PredictRequest, deadline: float) -> PredictReply:
        """Return the reply to ``request``; ``deadline`` is in seconds of ``perf_counter``.

        Raises ``WorkerLost`` if another worker may answer it, ``DeadlineExceeded`` when the
        deadline has passed, and ``PredictionFailed`` if no worker could answer it.
        """
        self.in_flight += 1
        try:
            async with asyncio.timeout(deadline - perf_counter()):
                reply = await self._open_stream().send(request)
            self.failures = 0
            return reply
        except TimeoutError as error:
            raise DeadlineExceeded("the worker did not answer in time") from error
        except StreamEnded as error:
            self.failures += 1
            raise WorkerLost("a worker ended its stream") from error
        except grpc.aio.AioRpcError as error:
            self.failures += 1
            raise self._as_request_error(error) from error
        finally:
            self.in_flight -= 1

    def eject(self) -> None:
        """Do not use it for a while, twice as long as the last time if that was recent."""
        now = asyncio.get_running_loop().time()
        if now > self._ejected_until + _MAX_EJECTION_SECONDS:
            self._ejection = _EJECTION_SECONDS
        self._ejected_until = now + self._ejection
        self._set_state(
            f"failed {self.failures} times in a row: not used for {self._ejection:.0f} s"
        )
        self._ejection = min(2 * self._ejection, _MAX_EJECTION_SECONDS)
        self.failures = 0

    def _open_stream(self) -> BatchStream:
        """The stream to the worker; a new one if the last one has ended."""
        if self._stream is None or self._stream.ended:
            self._stream = BatchStream(self._stub.Predict)
        return self._stream

    def _as_request_error(self, error: grpc.aio.AioRpcError) -> RequestError:
        code = error.code()
        if code in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED):
            self._set_state("does not answer")
            return WorkerBroke("a worker does not answer")
        log.error("the worker at %s refused a batch: %s %s", self.address, code, error.details())
        if code is grpc.StatusCode.INVALID_ARGUMENT:
            return PredictionFailed("the worker could not predict")
        if code is grpc.StatusCode.FAILED_PRECONDITION:
            return WorkerLost("the worker's model was trained with other features")
        return WorkerLost("a worker could not predict")

    async def _check_health(self) -> None:
        request = health_pb2.HealthCheckRequest()
        while True:
            try:
                reply = await self._health.Check(request, timeout=_POLL_TIMEOUT)
                serving = reply.status == health_pb2.HealthCheckResponse.SERVING
                if not serving:
                    self._set_state("reports that it cannot predict")
                elif asyncio.get_running_loop().time() >= self._ejected_until:
                    self._set_state(None)
            except grpc.aio.AioRpcError as error:
                self._set_state(f"does not answer ({error.code().name})")
            await asyncio.sleep(_POLL_SECONDS)

    def _set_state(self, words: str | None) -> None:
        if words and self._stream is not None:
            self._stream.finish()  # a stopping worker waits until its streams end
        before = self.unavailable_reason
        self.unavailable_reason = words and f"the worker at {self.address} {words}"
        if self.unavailable_reason != before:
            level = logging.WARNING if words else logging.INFO
            log.log(level, "the worker at %s %s", self.address, words or "is ready")
            self._on_change()


def _open_channel(address: str, identity: WorkerIdentity | None) -> grpc.aio.Channel:
    if identity is None:
        return grpc.aio.insecure_channel(address, options=_OPTIONS)
    # Workers' addresses change, so all their certificates have one name.
    options = [*_OPTIONS, ("grpc.ssl_target_name_override", identity.name)]
    return grpc.aio.secure_channel(address, identity.credentials, options=options)
