"""The gateway's view of one worker: calls it, and knows whether it can predict.

Health is asked for, not assumed: every half second the standard gRPC health service must say
SERVING, within a time limit, so that a worker that died, hangs or refuses is known in a second
and its callers get 503 at once instead of waiting for their deadline. That it is healthy is not
believed of one whose batches fail all the same: it can be left out for a while.
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
from mlservice.prediction.workers.stream import BatchStream, StreamEnded
from mlservice.protocol import predict_pb2_grpc
from mlservice.protocol.packing import CHANNEL_OPTIONS
from mlservice.protocol.predict_pb2 import PredictReply, PredictRequest

_POLL_SECONDS = 0.5
_POLL_TIMEOUT = 1.0
_EJECTION_SECONDS = 5.0
_LONGEST_EJECTION = 60.0
_OPTIONS = [
    *CHANNEL_OPTIONS,
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 500),
]
log = logging.getLogger("mlservice.gateway")


Secure = tuple[grpc.ChannelCredentials, str]
"""Credentials for a channel, and the name that a worker's certificate must have."""


class VersionGone(Unavailable):
    """No worker of this version can predict any more; nothing was sent to one."""


class WorkerLost(Unavailable):
    """The worker did not predict this batch; another one may."""


class WorkerBroke(WorkerLost):
    """The connection broke: the worker may have died, perhaps of this very batch."""


class WorkerClient:
    """A worker at one address (host:port); belongs to one event loop."""

    def __init__(
        self, address: str, version: str, changed: Callable[[], None], secure: Secure | None
    ) -> None:
        """Open the channel and begin to watch the worker's health.

        ``changed`` is called whenever the worker can predict again or no more.
        """
        self.address = address
        self.version = version
        self.in_flight = 0
        self.failures = 0
        self.usual = 0.0
        """Seconds that its batches take of late; 0 before the first."""
        self.unavailable_reason: str | None = f"the worker at {address} has not been asked yet"
        self._changed = changed
        self._ejection = _EJECTION_SECONDS
        self._ejected_until = 0.0
        self._stream: BatchStream | None = None
        self._channel = _open_channel(address, secure)
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
        504 past the time and 500 where no worker could.
        """
        self.in_flight += 1
        try:
            async with asyncio.timeout(timeout):
                reply = await self._open_stream().ask(request)
            self.failures = 0
            return reply
        except TimeoutError as error:
            raise RequestRefused(
                504, "deadline_exceeded", "the worker did not answer in time"
            ) from error
        except StreamEnded as error:
            self.failures += 1
            raise WorkerLost("a worker ended its stream") from error
        except grpc.aio.AioRpcError as error:
            self.failures += 1
            raise self._translated(error) from error
        finally:
            self.in_flight -= 1

    def eject(self) -> None:
        """Let nobody use it for a while, twice as long as the last time if that was lately."""
        now = asyncio.get_running_loop().time()
        if now > self._ejected_until + _LONGEST_EJECTION:
            self._ejection = _EJECTION_SECONDS
        self._ejected_until = now + self._ejection
        self._note(f"failed {self.failures} times in a row: not used for {self._ejection:.0f} s")
        self._ejection = min(2 * self._ejection, _LONGEST_EJECTION)
        self.failures = 0

    def _open_stream(self) -> BatchStream:
        """The stream to the worker; a new one where the last one has ended."""
        if self._stream is None or self._stream.ended:
            self._stream = BatchStream(self._stub.Predict)
        return self._stream

    def _translated(self, error: grpc.aio.AioRpcError) -> RequestRefused:
        code = error.code()
        if code in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED):
            self._note("does not answer")
            return WorkerBroke("a worker does not answer")
        log.error("the worker at %s refused a batch: %s %s", self.address, code, error.details())
        if code is grpc.StatusCode.INVALID_ARGUMENT:
            return RequestRefused(500, "prediction_failed", "the worker could not predict")
        if code is grpc.StatusCode.FAILED_PRECONDITION:
            return WorkerLost("the worker's model was trained with other features")
        return WorkerLost("a worker could not predict")

    async def _watch(self) -> None:
        request = health_pb2.HealthCheckRequest()
        while True:
            try:
                reply = await self._health.Check(request, timeout=_POLL_TIMEOUT)
                serving = reply.status == health_pb2.HealthCheckResponse.SERVING
                if not serving:
                    self._note("says that it cannot predict")
                elif asyncio.get_running_loop().time() >= self._ejected_until:
                    self._note(None)
            except grpc.aio.AioRpcError as error:
                self._note(f"does not answer ({error.code().name})")
            await asyncio.sleep(_POLL_SECONDS)

    def _note(self, words: str | None) -> None:
        if words and self._stream is not None:
            self._stream.finish()  # a worker that stops waits until its streams end
        before = self.unavailable_reason
        self.unavailable_reason = words and f"the worker at {self.address} {words}"
        if self.unavailable_reason != before:
            level = logging.WARNING if words else logging.INFO
            log.log(level, "the worker at %s %s", self.address, words or "is ready")
            self._changed()


def _open_channel(address: str, secure: Secure | None) -> grpc.aio.Channel:
    if secure is None:
        return grpc.aio.insecure_channel(address, options=_OPTIONS)
    credentials, name = secure
    # Workers come and go by address; their certificates share a name.
    options = [*_OPTIONS, ("grpc.ssl_target_name_override", name)]
    return grpc.aio.secure_channel(address, credentials, options=options)
