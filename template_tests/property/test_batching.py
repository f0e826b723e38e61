"""Batches: each request gets its own outcome, whatever the timing and whatever else fails."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlservice.errors import (
    DeadlineExceeded,
    Overloaded,
    PredictionFailed,
    Unavailable,
)
from mlservice.prediction.batching import Batch, BatchReply
from mlservice.prediction.context import RequestContext
from mlservice.prediction.expiry import Expiry
from mlservice.prediction.pending import Outcome, Pending
from mlservice.protocol.packing import Status
from template_tests.support.batch_callers import Callers
from template_tests.support.laws import examples


class EchoWorker:
    """Answers each row with the number packed in it, out of order and with bad statuses."""

    def __init__(self, delays: Sequence[float], statuses: Sequence[int]) -> None:
        self.delays = list(delays)
        self.statuses = list(statuses)
        self.batches: list[int] = []
        self.running = 0
        self.max_running = 0

    async def __call__(self, batch: Batch) -> BatchReply:
        values = [float(digits) for digits in batch.rows.split()]
        assert len(values) == len(batch.deadlines)
        self.batches.append(len(values))
        self.running += 1
        self.max_running = max(self.max_running, self.running)
        await asyncio.sleep(self.delays.pop() if self.delays else 0)
        self.running -= 1
        statuses = bytes(self.statuses[int(value) % len(self.statuses)] for value in values)
        return BatchReply(values, statuses, "v")


@given(
    st.lists(st.tuples(st.floats(0, 0.003), st.integers(1, 3)), min_size=1, max_size=80),
    st.lists(st.floats(0, 0.002), max_size=30),
    st.lists(st.sampled_from(list(Status)), min_size=1, max_size=7),
    st.integers(3, 9),
    st.integers(1, 3),
)
@settings(max_examples=examples(60), deadline=None)
def test_each_request_gets_its_own_answer_whatever_the_timing(
    arrivals: list[tuple[float, int]],
    delays: list[float],
    statuses: list[int],
    most: int,
    in_flight: int,
) -> None:
    worker = EchoWorker(delays, statuses)

    async def caller(callers: Callers, number: int, wait: float, rows: int) -> None:
        await asyncio.sleep(wait)
        deadline = time.perf_counter() + 30
        expected = statuses[number % len(statuses)]
        try:
            total = await callers.submit(f"{number} ".encode(), deadline, rows)
        except DeadlineExceeded:
            assert expected == Status.EXPIRED
        except PredictionFailed:
            assert expected in (Status.FAILED, Status.NOT_FINITE)
        else:
            assert total == number * rows
            assert expected == Status.OK

    async def crowd() -> None:
        callers = Callers(worker, max_rows=most, max_queue=1000, max_in_flight=lambda: in_flight)
        starts = (caller(callers, n, *arrival) for n, arrival in enumerate(arrivals))
        await asyncio.gather(*starts)

    asyncio.run(crowd())
    assert sum(worker.batches) == sum(rows for _, rows in arrivals)
    assert max(worker.batches) <= most
    assert worker.max_running <= in_flight


@given(st.sampled_from([ValueError("bug"), PredictionFailed("y"), Unavailable("z")]))
@settings(deadline=None)
def test_a_batch_that_fails_fails_for_each_of_its_callers_and_the_next_goes_on(
    error: Exception,
) -> None:
    async def send(batch: Batch) -> BatchReply:
        if batch.rows.startswith(b"bad"):
            raise error
        return BatchReply([1.0] * len(batch.deadlines), bytes(len(batch.deadlines)), "v")

    async def crowd() -> None:
        callers = Callers(send)
        deadline = time.perf_counter() + 5
        results = await asyncio.gather(
            *(callers.submit(b"bad", deadline) for _ in range(8)), return_exceptions=True
        )
        assert results == [error] * 8
        assert await callers.submit(b"good", deadline) == 1.0

    asyncio.run(crowd())


@pytest.mark.parametrize("rows", [0, 1, 3])
def test_a_worker_that_answers_another_number_of_rows_fails_the_whole_batch(rows: int) -> None:
    async def send(_: Batch) -> BatchReply:
        return BatchReply([0.5] * rows, bytes(rows), "v")

    async def crowd() -> list[object]:
        callers = Callers(send)
        deadline = time.perf_counter() + 5
        return await asyncio.gather(
            *(callers.submit(b"", deadline) for _ in range(2)), return_exceptions=True
        )

    assert all(isinstance(result, PredictionFailed) for result in asyncio.run(crowd()))


def test_rows_that_nobody_waits_for_are_not_sent() -> None:
    worker = EchoWorker([0.2], [Status.OK])

    async def crowd() -> None:
        callers = Callers(worker, max_rows=1, max_in_flight=lambda: 1)
        now = time.perf_counter()
        first = asyncio.create_task(callers.submit(b"1 ", now + 5))
        await asyncio.sleep(0.01)
        leaving = asyncio.create_task(callers.submit(b"2 ", now + 5))
        expiring = asyncio.create_task(callers.submit(b"3 ", now + 0.05))
        await asyncio.sleep(0.02)
        leaving.cancel()
        assert await first == 1
        with pytest.raises(DeadlineExceeded, match="time ran out"):
            await expiring
        await callers.batcher.drain()

    asyncio.run(crowd())
    assert worker.batches == [1]


def test_more_rows_than_may_wait_are_refused_at_once() -> None:
    worker = EchoWorker([0.1], [Status.OK])

    async def crowd() -> list[object]:
        callers = Callers(worker, max_rows=1, max_queue=5, max_in_flight=lambda: 1)
        deadline = time.perf_counter() + 5
        requests = (callers.submit(f"{n} ".encode(), deadline) for n in range(20))
        return await asyncio.gather(*requests, return_exceptions=True)

    results = asyncio.run(crowd())
    assert sum(isinstance(result, Overloaded) for result in results) == 15


@given(st.lists(st.tuples(st.floats(0, 0.02), st.booleans()), min_size=1, max_size=60))
@settings(max_examples=examples(40), deadline=None)
def test_each_request_ends_at_its_deadline_and_not_before(
    requests: list[tuple[float, bool]],
) -> None:
    async def run() -> None:
        loop, expiry = asyncio.get_running_loop(), Expiry()
        ended: dict[int, float] = {}
        now = time.perf_counter()
        for number, (timeout, answered) in enumerate(requests):

            def done(outcome: Outcome, number: int = number) -> None:
                assert isinstance(outcome, DeadlineExceeded)
                ended[number] = time.perf_counter()

            pending = Pending(b"", RequestContext("r", None, now, now + timeout), done)
            expiry.watch(pending)
            if answered:
                loop.call_soon(pending.abandon)
        await asyncio.sleep(0.06)
        expiry.close()
        late = {n for n, (timeout, answered) in enumerate(requests) if timeout and not answered}
        assert late <= ended.keys()
        assert all(at >= now + requests[number][0] for number, at in ended.items())

    asyncio.run(run())
