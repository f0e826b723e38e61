"""Loads models in a thread beside the predicting one, and releases their memory.

An executor is not used, because Python waits at exit for an executor's threads. A worker that is
stopped while it loads a large model would then be killed.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import gc
import queue
import sys
import threading
from collections.abc import Callable, Iterator
from typing import TypeVar

Result = TypeVar("Result")
_SWITCH_SECONDS = 0.0005


class LoadThread:
    """One thread for all loading; belongs to one event loop.

    One thread is kept, because the C library and a framework's OpenMP keep memory pools for each
    new thread.
    """

    def __init__(self) -> None:
        """Start the thread."""
        self._work: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        threading.Thread(target=self._run, name="load", daemon=True).start()

    async def call(self, function: Callable[[], Result]) -> Result:
        """Call ``function()`` in the thread; returns or raises what it does.

        If the caller is cancelled, the call still runs to its end.
        """
        loop = asyncio.get_running_loop()
        ended = asyncio.Event()
        results: list[Result] = []
        errors: list[Exception] = []

        def work() -> None:
            try:
                results.append(function())
            except Exception as error:  # noqa: BLE001  # handed to the caller
                errors.append(error)
            with contextlib.suppress(RuntimeError):  # the loop is closed: the process ends
                loop.call_soon_threadsafe(ended.set)

        self._work.put(work)
        await ended.wait()
        if errors:
            raise errors.pop()
        return results.pop()

    def _run(self) -> None:
        while True:
            self._work.get()()


@contextlib.contextmanager
def short_switch_interval() -> Iterator[None]:
    """Switch between threads more often inside this context.

    Otherwise a load in pure Python holds the interpreter's lock for 5 ms each time that a request
    needs it.
    """
    before = sys.getswitchinterval()
    sys.setswitchinterval(_SWITCH_SECONDS)
    try:
        yield
    finally:
        sys.setswitchinterval(before)


def release_memory() -> None:
    """Collect garbage, and return free memory to the system if the C library can."""
    gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
