"""Replaces the worker's model without a pause: the old model serves until the new one is ready.

The new model is fetched, verified, loaded and tried beside the old one, and then one reference is
replaced. If a step fails, the old model stays. A refused model is not tried again, because it would
not change. A store that cannot be reached is tried again.
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
from mlservice.worker.loading import LoadThread, release_memory, short_switch_interval
from mlservice.worker.predictor import Predictor
from mlservice.worker.slot import ModelSlot

_FIRST_PAUSE_SECONDS = 1.0
_MAX_PAUSE_SECONDS = 30.0
Fetch = Callable[[ModelRecord], ModelSlot]
log = logging.getLogger("mlservice.worker")


class Swapper:
    """Swaps to each model that the live file names; belongs to one event loop."""

    def __init__(self, predictor: Predictor, fetch: Fetch, stagger: float) -> None:
        """Load by ``fetch``; wait a random time up to ``stagger`` seconds before a swap."""
        self._predictor = predictor
        self._fetch = fetch
        self._stagger = stagger
        self._requested: ModelRecord | None = None
        self._served: ModelRecord | None = None
        self._changed = asyncio.Event()
        self._thread = LoadThread()

    def follow(self, live: Live) -> None:
        """Request the model that the live file names; if it names none, the current one stays."""
        if live.model is None:
            log.warning("the live file names no model: %s", self._describe_served())
        if live.model != self._requested:
            self._requested = live.model
            self._changed.set()

    async def run(self) -> None:
        """Load and serve each requested model; ends by cancel."""
        while True:
            await self._changed.wait()
            self._changed.clear()
            if self._requested is not None and self._requested != self._served:
                await self._load_and_swap(self._requested)

    async def _load_and_swap(self, record: ModelRecord) -> None:
        """Serve ``record``, unless it is refused or another model is requested meanwhile."""
        started = time.monotonic()
        pause = _FIRST_PAUSE_SECONDS
        while not self._changed.is_set():
            try:
                slot = await self._thread.call(lambda: _load(self._fetch, record))
            except StoreError as error:
                metrics.SWAP_RETRIES.inc()
                words = "model %s cannot be fetched: %s; next try in %.0f s; %s"
                log.error(words, record.version, error, pause, self._describe_served())
                await self._wait_for_change(pause)
                pause = min(2 * pause, _MAX_PAUSE_SECONDS)
            except MlserviceError as error:
                metrics.SWAP_REFUSALS.inc()
                log.error(
                    "model %s is refused: %s; %s", record.version, error, self._describe_served()
                )
                break
            else:
                await self._swap(record, slot, started)
                del slot
                break
        # Waits for the calls on the old model, so that its memory can be released.
        await self._predictor.idle()
        await self._thread.call(release_memory)

    async def _swap(self, record: ModelRecord, slot: ModelSlot, started: float) -> None:
        if self._served is not None and self._stagger:
            await self._wait_for_change(random.uniform(0, self._stagger))  # noqa: S311  # not a secret
        if self._changed.is_set():
            log.info("model %s is dropped: another one is requested", record.version)
            return
        self._predictor.slot = slot
        self._served = record
        took = time.monotonic() - started
        metrics.SWAPS.inc()
        metrics.SWAP_SECONDS.observe(took)
        metrics.MODEL.info({"version": record.version})
        log.info("model %s is served, %.1f s after it was requested", record.version, took)

    async def _wait_for_change(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._changed.wait()

    def _describe_served(self) -> str:
        if self._served is None:
            return "this worker waits for a model"
        return f"model {self._served.version} stays in use"


def _load(fetch: Fetch, record: ModelRecord) -> ModelSlot:
    """Fetch the slot; an error of the owner's code, also SystemExit, becomes ``ModelRefused``."""
    try:
        with short_switch_interval():
            return fetch(record)
    except MlserviceError:
        raise
    except BaseException as error:
        raise ModelRefused(f"{record.uri}: {type(error).__name__}: {error}") from error
