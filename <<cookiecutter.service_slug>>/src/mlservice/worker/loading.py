"""Work beside predicting: a thread that ends with the process, and memory that is given back.

An executor is not used, because Python waits for its threads at exit, and a worker that is told
to stop while it loads a large model must not be killed for that.
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

    It is kept, since each new thread would bring memory pools of its own, which the C library
    and a framework's OpenMP hold on to.
    """

    def __init__(self) -> None:
        """Start the thread."""
        self._work: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        threading.Thread(target=self._run, name="load", daemon=True).start()

    async def call(self, function: Callable[[], Result]) -> Result:
        """What ``function()`` returns or raises, in the thread.

        A cancelled caller leaves the call to end by itself.
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
def short_turns() -> Iterator[None]:
    """Let threads take turns more often meanwhile.

    Loading that is pure Python would else keep the lock of the interpreter for 5 ms each time
    that a request needs it.
    """
    before = sys.getswitchinterval()
    sys.setswitchinterval(_SWITCH_SECONDS)
    try:
        yield
    finally:
        sys.setswitchinterval(before)


def give_back_memory() -> None:
    """Free what nobody refers to any more, and return it to the system where glibc can."""
    gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
