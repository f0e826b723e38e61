"""Writes business events as JSON lines: what was asked and answered, shown and rewarded.

A request only appends to a queue in memory; a thread writes. Each process has files of its own,
so nothing is interleaved, and a file that is full is followed by the next, so that events never
fill a disk: the oldest files go first. What cannot be written is kept and tried again, as far as
the queue allows; what is lost then is counted.
"""

from __future__ import annotations

import logging
import os
import threading
from collections import deque
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO

import orjson

from mlservice.observe import metrics

_PAUSE_SECONDS = 0.1
_RETRY_SECONDS = 1.0
_MOST_WAITING = 100_000
_FILE_BYTES = 16_000_000
_BATCH = 200
"""Events a write: while its lines are made, the loop waits for the interpreter's lock."""
log = logging.getLogger("mlservice.events")


class EventLog:
    """Events of one process, in files of ``folder``; with no folder they are dropped unseen."""

    def __init__(self, folder: Path | None, most_bytes: int) -> None:
        """Keep at most about ``most_bytes`` of files; nothing is opened before an event comes."""
        self._folder = folder
        self._most_files = max(2, most_bytes // _FILE_BYTES)
        self._waiting: deque[Mapping[str, Any]] = deque()
        self._pending: list[Mapping[str, Any]] = []
        self._file: BinaryIO | None = None
        self._size = 0
        self._number = 0
        self._name = f"events-{datetime.now(UTC):%Y%m%dT%H%M%S}-{os.getpid()}"
        self._ending = threading.Event()
        self._thread: threading.Thread | None = None
        self._failing = False

    @property
    def on(self) -> bool:
        """Whether events are kept."""
        return self._folder is not None

    def put(self, event: Mapping[str, Any]) -> None:
        """Take an event; it is written within a moment. Never waits and never fails."""
        if self._folder is None:
            return
        if len(self._waiting) >= _MOST_WAITING:
            metrics.EVENTS_LOST.inc()
            return
        self._waiting.append(event)
        if self._thread is None:
            self._thread = threading.Thread(
                target=self._run, args=(self._folder,), name="events", daemon=True
            )
            self._thread.start()

    def close(self) -> None:
        """Write what waits; what cannot be written now is counted as lost."""
        self._ending.set()
        if self._thread is not None:
            self._thread.join()
        if lost := len(self._pending) + len(self._waiting):
            log.error("%d events are lost: they could not be written", lost)
            metrics.EVENTS_LOST.inc(lost)
        if self._file is not None:
            self._file.close()

    def _run(self, folder: Path) -> None:
        while not self._ending.wait(_RETRY_SECONDS if self._failing else _PAUSE_SECONDS):
            self._write_all(folder)
        self._write_all(folder)

    def _write_all(self, folder: Path) -> None:
        while self._pending or self._waiting:
            if not self._pending:
                count = min(len(self._waiting), _BATCH)
                self._pending = [self._waiting.popleft() for _ in range(count)]
            lines = _lines(self._pending)
            try:
                self._write(folder, b"".join(lines))
            except OSError as error:
                self._complain(error)
                return
            self._failing = False
            metrics.EVENTS.inc(len(lines))
            metrics.EVENTS_LOST.inc(len(self._pending) - len(lines))
            self._pending = []

    def _write(self, folder: Path, lines: bytes) -> None:
        """Write whole lines or, where that fails, none."""
        file = self._file or self._open(folder)
        left = memoryview(lines)
        try:
            while left:
                left = left[file.write(left) :]  # a disk that fills takes a part
        except OSError:
            os.ftruncate(file.fileno(), self._size)
            os.lseek(file.fileno(), self._size, os.SEEK_SET)
            raise
        self._size += len(lines)
        if self._size >= _FILE_BYTES:
            file.close()
            self._file = None

    def _open(self, folder: Path) -> BinaryIO:
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{self._name}-{self._number:06}.jsonl"
        self._file = path.open("wb", buffering=0)
        self._number += 1
        self._size = 0
        self._remove_oldest(folder)
        return self._file

    def _remove_oldest(self, folder: Path) -> None:
        files = sorted(folder.glob("events-*.jsonl"), key=lambda path: path.stat().st_mtime)
        for path in files[: -self._most_files]:
            path.unlink(missing_ok=True)

    def _complain(self, error: OSError) -> None:
        if not self._failing:
            log.error(
                "[events] folder = '%s': %s: events wait in memory until it can be written",
                self._folder,
                (error.strerror or str(error)).lower(),
            )
        self._failing = True


def _lines(events: Iterable[Mapping[str, Any]]) -> list[bytes]:
    """A line for each event that JSON can hold."""
    lines = []
    for event in events:
        try:
            lines.append(orjson.dumps(event, option=orjson.OPT_APPEND_NEWLINE | orjson.OPT_UTC_Z))
        except orjson.JSONEncodeError as error:
            log.error("an event is lost: %s: %.200r", error, event)
    return lines
