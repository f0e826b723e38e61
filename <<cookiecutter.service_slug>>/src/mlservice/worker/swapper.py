"""Brings a worker the model that it shall serve, while the one before it serves on.

The new model is fetched, verified, loaded and tried beside the old one; then one reference is
exchanged. Whatever goes wrong leaves the old one. A model that was refused is not tried again,
since it would not change; a store that is away is, since it comes back.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import time
from collections.abc import Callable

from mlservice.errors import MlserviceError, ModelRefused, StoreError
from mlservice.live import Live, ModelRecord
from mlservice.observe import metrics
from mlservice.worker.loading import LoadThread, give_back_memory, short_turns
from mlservice.worker.predictor import Predictor
from mlservice.worker.slot import ModelSlot

_FIRST_PAUSE = 1.0
_LONGEST_PAUSE = 30.0
Fetch = Callable[[ModelRecord], ModelSlot]
log = logging.getLogger("mlservice.worker")


class Swapper:
    """Follows the model that is wanted; belongs to one event loop."""

    def __init__(self, predictor: Predictor, fetch: Fetch, stagger: float) -> None:
        """Load by ``fetch``, and wait up to ``stagger`` seconds before an exchange."""
        self._predictor = predictor
        self._fetch = fetch
        self._stagger = stagger
        self._wanted: ModelRecord | None = None
        self._served: ModelRecord | None = None
        self._news = asyncio.Event()
        self._thread = LoadThread()

    def follow(self, live: Live) -> None:
        """Want the model that the live file names; None leaves the one that serves."""
        if live.model is None:
            log.warning("the live file names no model: %s", self._serves())
        if live.model != self._wanted:
            self._wanted = live.model
            self._news.set()

    async def run(self) -> None:
        """Bring each model that is wanted; ends by cancel."""
        while True:
            await self._news.wait()
            self._news.clear()
            if self._wanted is not None and self._wanted != self._served:
                await self._bring(self._wanted)

    async def _bring(self, record: ModelRecord) -> None:
        """Serve ``record``, unless it is refused or another one is wanted meanwhile."""
        started = time.monotonic()
        pause = _FIRST_PAUSE
        while not self._news.is_set():
            try:
                slot = await self._thread.call(lambda: _load(self._fetch, record))
            except StoreError as error:
                metrics.SWAP_RETRIES.inc()
                words = "model %s cannot be fetched: %s; tried again in %.0f s; %s"
                log.error(words, record.version, error, pause, self._serves())
                await self._news_within(pause)
                pause = min(2 * pause, _LONGEST_PAUSE)
            except MlserviceError as error:
                metrics.SWAP_REFUSALS.inc()
                log.error("model %s is refused: %s; %s", record.version, error, self._serves())
                break
            else:
                await self._take(record, slot, started)
                del slot
                break
        # What ran on the old model has ended when its thread comes to this.
        await self._predictor.idle()
        await self._thread.call(give_back_memory)

    async def _take(self, record: ModelRecord, slot: ModelSlot, started: float) -> None:
        if self._served is not None and self._stagger:
            await self._news_within(random.uniform(0, self._stagger))  # noqa: S311  # no secret
        if self._news.is_set():
            log.info("model %s is dropped: another one is wanted by now", record.version)
            return
        self._predictor.slot = slot
        self._served = record
        took = time.monotonic() - started
        metrics.SWAPS.inc()
        metrics.SWAP_SECONDS.observe(took)
        metrics.MODEL.info({"version": record.version})
        log.info("model %s is served, %.1f s after it was seen", record.version, took)

    async def _news_within(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._news.wait()

    def _serves(self) -> str:
        if self._served is None:
            return "this worker waits for a model"
        return f"model {self._served.version} serves on"


def _load(fetch: Fetch, record: ModelRecord) -> ModelSlot:
    """Fetch the slot; what the owner's code raises, SystemExit too, is a refusal."""
    try:
        with short_turns():
            return fetch(record)
    except MlserviceError:
        raise
    except BaseException as error:
        raise ModelRefused(f"{record.uri}: {type(error).__name__}: {error}") from error
