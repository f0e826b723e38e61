"""Follows the live file, and passes each usable change to the parts that subscribed.

The whole file is read each time. It is small, and comparing its content cannot miss a change; its
time and size can, if the file is written twice within one tick of the clock. A file that cannot
be used is refused, and the last good one stays in force.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable
from pathlib import Path

from mlservice.errors import LiveError
from mlservice.live.file import Live, decode_live, read_bytes
from mlservice.observe import metrics
from mlservice.settings import LiveSettings

log = logging.getLogger("mlservice.live")


class LiveFollower:
    """Knows the last good live file; belongs to one event loop."""

    def __init__(self, path: Path, settings: LiveSettings) -> None:
        """Follow ``path``; nothing is read before ``look`` or ``run``."""
        self.value: Live | None = None
        self._path = path
        self._pause = settings.poll_ms / 1000 if settings.watch else None
        self._seen: bytes | str | None = None
        self._good = False
        self._callbacks: list[Callable[[Live], None]] = []
        self._requested = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None

    def subscribe(self, callback: Callable[[Live], None]) -> None:
        """Call ``callback`` with each new value from now on."""
        self._callbacks.append(callback)

    def look_soon(self) -> None:
        """Read the file as soon as the loop can; safe in signal handlers and other threads."""
        if self._loop is not None:
            with contextlib.suppress(RuntimeError):  # the loop is closed: the process ends
                self._loop.call_soon_threadsafe(self._requested.set)

    async def run(self) -> None:
        """Read the file now, at each interval and after ``look_soon``; ends when cancelled."""
        self._loop = asyncio.get_running_loop()
        while True:
            self._requested.clear()
            self.look()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._pause):
                    await self._requested.wait()

    def look(self) -> None:
        """Read the file once, and pass it on if it changed."""
        found = self._read()
        if found != self._seen:
            self._seen = found
            self._validate(found)
        if self._good:
            metrics.LIVE_GOOD.set_to_current_time()

    def _read(self) -> bytes | str:
        """The file's content, or the reason why it cannot be read."""
        try:
            return read_bytes(self._path)
        except LiveError as error:
            return str(error)

    def _validate(self, found: bytes | str) -> None:
        try:
            if isinstance(found, str):
                raise LiveError(found)
            live = decode_live(found, self._path)
        except LiveError as error:
            self._good = False
            metrics.LIVE_REFUSALS.inc()
            stays = "the last good one stays" if self.value else "none was good so far"
            log.error("%s; %s", error, stays)
        else:
            self._good = True
            self._apply(live)

    def _apply(self, live: Live) -> None:
        metrics.LIVE_RELOADS.inc()
        if live == self.value:
            return
        self.value = live
        for callback in self._callbacks:
            try:
                callback(live)
            except Exception:
                log.exception("a part of the service failed to apply a change of %s", self._path)
