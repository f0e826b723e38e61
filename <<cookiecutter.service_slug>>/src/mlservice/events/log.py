"""Writes events as JSON lines, in a thread, so that a request only appends to a queue in memory.

Each process writes files of its own, so lines of two processes never mix. A full file is followed
by the next one. The oldest files are removed, so events never fill a disk, unless a process still
writes them. Events that cannot be written wait in memory and are tried again. Events that find
the memory full, or that JSON cannot hold, are lost and counted.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import threading
from collections import deque
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO

from mlservice.errors import EventError
from mlservice.events.kinds import Event, encode_event
from mlservice.observe import metrics

_PAUSE_SECONDS = 0.1
_RETRY_SECONDS = 1.0
_MAX_WAITING = 100_000
_MAX_FILE_BYTES = 16_000_000
_BATCH = 200
"""Events a write: while their lines are made, the event loop waits for the interpreter's lock."""
log = logging.getLogger("mlservice.events")


class EventLog:
    """The events of one process, in files of ``folder``; without a folder they are dropped."""

    def __init__(self, folder: Path | None, max_bytes: int) -> None:
        """Keep about ``max_bytes`` of files; no file is opened before the first event."""
        self._folder = folder
        self._max_files = max(2, max_bytes // _MAX_FILE_BYTES)
        self._waiting: deque[Event] = deque()
        self._pending: list[Event] = []
        self._file: BinaryIO | None = None
        self._size = 0
        self._number = 0
        self._name = f"events-{datetime.now(UTC):%Y%m%dT%H%M%S}-{os.getpid()}"
        self._closing = threading.Event()
        self._thread: threading.Thread | None = None
        self._failing = False

    @property
    def on(self) -> bool:
        """Whether events are kept."""
        return self._folder is not None

    def put(self, event: Event) -> None:
        """Take an event, which is written within a moment. Never waits and never raises."""
        if self._folder is None:
            return
        if len(self._waiting) >= _MAX_WAITING:
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
        self._closing.set()
        if self._thread is not None:
            self._thread.join()
        if lost := len(self._pending) + len(self._waiting):
            log.error("%d events are lost: they could not be written", lost)
            metrics.EVENTS_LOST.inc(lost)
        if self._file is not None:
            self._file.close()

    def _run(self, folder: Path) -> None:
        while not self._closing.wait(_RETRY_SECONDS if self._failing else _PAUSE_SECONDS):
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
                self._report(error)
                return
            self._failing = False
            metrics.EVENTS.inc(len(lines))
            metrics.EVENTS_LOST.inc(len(self._pending) - len(lines))
            self._pending = []

    def _write(self, folder: Path, lines: bytes) -> None:
        """Write whole lines or, if that fails, none."""
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
        if self._size >= _MAX_FILE_BYTES:
            file.close()
            self._file = None

    def _open(self, folder: Path) -> BinaryIO:
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{self._name}-{self._number:06}.jsonl"
        self._file = path.open("wb", buffering=0)
        fcntl.flock(self._file, fcntl.LOCK_EX)  # so that no process removes it while it is open
        self._number += 1
        self._size = 0
        self._remove_oldest(folder)
        return self._file

    def _remove_oldest(self, folder: Path) -> None:
        ages = []
        for path in folder.glob("events-*.jsonl"):
            with contextlib.suppress(FileNotFoundError):  # another process removed it
                ages.append((path.stat().st_mtime, path))
        for _, path in sorted(ages)[: -self._max_files]:
            _remove_unless_open(path)

    def _report(self, error: OSError) -> None:
        if not self._failing:
            log.error(
                "[events] folder = '%s': %s: events wait in memory until it can be written",
                self._folder,
                (error.strerror or str(error)).lower(),
            )
        self._failing = True


def _remove_unless_open(path: Path) -> None:
    """Remove a file, unless a process still writes it or another one has removed it."""
    with contextlib.suppress(BlockingIOError, FileNotFoundError), path.open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        path.unlink()


def _lines(events: Iterable[Event]) -> list[bytes]:
    """A line for each event that JSON can hold."""
    lines = []
    for event in events:
        try:
            lines.append(encode_event(event))
        except EventError as error:
            log.error("an event is lost: %s", error)
    return lines
