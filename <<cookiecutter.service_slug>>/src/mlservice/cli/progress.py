"""Shows how far long work is: a bar on a terminal, else a line now and then, on standard error."""

from __future__ import annotations

import logging
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

from mlservice.progress import SILENT, Progress

if TYPE_CHECKING:
    from rich.progress import Progress as RichProgress

_LINE_SECONDS = 10.0


@contextmanager
def show_progress(*, silent: bool = False) -> Iterator[Progress]:
    """Show the progress that work reports within this context; ``silent`` shows nothing."""
    if silent:
        yield SILENT
    elif sys.stderr.isatty():
        bars = _Bars()
        try:
            yield bars
        finally:
            bars.end()
    else:
        yield _Lines()


class _Pace:
    """Counts steps, and estimates the rate and the time that is left."""

    def __init__(self, title: str, total: int) -> None:
        self.title = title
        self._total = total
        self._done = 0
        self._started = time.monotonic()

    def advance(self, count: int) -> None:
        self._done += count

    @property
    def complete(self) -> bool:
        return self._done >= self._total

    def rate(self) -> str:
        """Steps each second, or each minute or hour if they are slow."""
        seconds = max(time.monotonic() - self._started, 1e-6)
        for unit, length in (("s", 1.0), ("min", 60.0)):
            if (rate := self._done / seconds * length) >= 1:
                return f"{rate:.1f}/{unit}"
        return f"{self._done / seconds * 3600:.1f}/h"

    def line(self) -> str:
        seconds = time.monotonic() - self._started
        done = f"{self.title}: {self._done} of {self._total}"
        if self.complete or not self._done:
            return f"{done} in {_time(seconds)}, {self.rate()}"
        left = seconds / self._done * (self._total - self._done)
        return f"{done} after {_time(seconds)}, {self.rate()}, about {_time(left)} left"


class _Lines:
    """Progress as plain lines: one every ten seconds, and one at the end."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._pace: _Pace | None = None
        self._next = 0.0

    def begin(self, title: str, total: int) -> None:
        with self._lock:
            self._pace = _Pace(title, total)
            self._next = time.monotonic() + _LINE_SECONDS

    def advance(self, count: int = 1) -> None:
        with self._lock:
            if self._pace is None:
                return
            self._pace.advance(count)
            if self._pace.complete or time.monotonic() >= self._next:
                print(self._pace.line(), file=sys.stderr, flush=True)
                self._next = time.monotonic() + _LINE_SECONDS

    def end(self) -> None:
        with self._lock:
            self._pace = None


class _Bars:
    """Progress as a bar of rich's; log lines go above it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._shown = ExitStack()
        self._pace: _Pace | None = None
        self._bar: RichProgress | None = None

    def begin(self, title: str, total: int) -> None:
        self.end()
        with self._lock:
            self._pace = _Pace(title, total)
            self._bar = self._shown.enter_context(_make_bar())
            self._shown.enter_context(_logs_above_the_bar())
            self._bar.add_task(title, total=total, rate="")

    def advance(self, count: int = 1) -> None:
        with self._lock:
            if self._pace and self._bar:
                self._pace.advance(count)
                (task,) = self._bar.task_ids
                self._bar.update(task, advance=count, rate=self._pace.rate())

    def end(self) -> None:
        with self._lock:
            self._shown.close()
            self._shown = ExitStack()
            self._bar = self._pace = None


def _make_bar() -> RichProgress:
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        console=Console(stderr=True),
    )


@contextmanager
def _logs_above_the_bar() -> Iterator[None]:
    """Let loggers write to what ``sys.stderr`` is now, which rich keeps above its bar."""
    handlers = [
        handler
        for handler in logging.getLogger().handlers
        if isinstance(handler, logging.StreamHandler)
    ]
    before = [handler.setStream(sys.stderr) for handler in handlers]
    try:
        yield
    finally:
        for handler, stream in zip(handlers, before, strict=True):
            if stream is not None:
                handler.setStream(stream)


def _time(seconds: float) -> str:
    if seconds < 100:
        return f"{seconds:.1f} s"
    minutes = seconds / 60
    return f"{minutes:.0f} min" if minutes < 100 else f"{minutes / 60:.1f} h"
