"""One open gRPC stream for all batches to a worker, since a call for each batch costs more.

One stream replaces one call per batch, so replies are matched to requests by their order. An
abandoned request keeps its place, and every request that still waits fails when the stream ends.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncIterator, Callable
from typing import TypeAlias

import grpc
import grpc.aio

from mlservice.protocol.predict_pb2 import PredictReply, PredictRequest
from mlservice.shutdown import SHUTDOWN

StreamCall: TypeAlias = "grpc.aio.StreamStreamCall[PredictRequest, PredictReply]"


class StreamEnded(Exception):
    """The worker ended the stream before the reply came."""


class BatchStream:
    """A stream to one worker; belongs to one event loop."""

    def __init__(self, open_call: Callable[[AsyncIterator[PredictRequest]], StreamCall]) -> None:
        """Open the stream with ``open_call(requests)``."""
        self.ended = False
        self._to_send: asyncio.Queue[PredictRequest | None] = asyncio.Queue()
        self._waiting: deque[asyncio.Future[PredictReply]] = deque()
        self._call = open_call(self._requests())
        self._reader = asyncio.create_task(self._read())

    async def send(self, request: PredictRequest) -> PredictReply:
        """Return the reply to ``request``; raises ``grpc.aio.AioRpcError`` or ``StreamEnded``."""
        if self.ended:
            raise StreamEnded
        reply: asyncio.Future[PredictReply] = asyncio.get_running_loop().create_future()
        self._waiting.append(reply)
        self._to_send.put_nowait(request)
        return await reply

    def finish(self) -> None:
        """Send nothing more; batches that were sent are still answered."""
        if not self.ended:
            self.ended = True
            self._to_send.put_nowait(None)

    async def close(self) -> None:
        """Finish, and close after a second even if the worker does not answer."""
        self.finish()
        await asyncio.wait([self._reader], timeout=SHUTDOWN.worker_streams)
        self._call.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._reader

    async def _requests(self) -> AsyncIterator[PredictRequest]:
        while (request := await self._to_send.get()) is not None:
            yield request

    async def _read(self) -> None:
        error: Exception = StreamEnded()
        try:
            async for reply in self._call:
                waiting = self._waiting.popleft()
                if not waiting.done():
                    waiting.set_result(reply)
        except grpc.aio.AioRpcError as found:
            error = found
        finally:
            self.ended = True
            for waiting in self._waiting:
                if not waiting.done():
                    waiting.set_exception(error)
            self._waiting.clear()
