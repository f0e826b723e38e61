"""A gateway whose workers come, go, die and hang under load."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Iterator
from typing import Any

import pytest

from mlservice.prediction.batching import Batch, BatchReply
from template_tests.support.batch_callers import Callers
from template_tests.support.live_toy import Crowd, LiveToy, Process, opened, wait_for
from template_tests.support.toy_service import MakeToy


@pytest.fixture
def world(make_toy: MakeToy) -> Iterator[LiveToy]:
    with opened(make_toy()) as made:
        made.publish(made.model(1.0))
        yield made


def workers_of(world: LiveToy, count: int, **more: str) -> list[Process]:
    """So many workers that can predict."""
    workers = [world.start("worker", **more) for _ in range(count)]
    for worker in workers:
        wait_for(worker.serves)
    return workers


def listed(world: LiveToy, workers: list[Process]) -> None:
    """Write the gateway's live file."""
    world.write("gateway.json", workers=[worker.address for worker in workers])


def gateway_of(world: LiveToy, workers: list[Process], **more: str) -> Process:
    """A gateway that is ready, with these workers in its live file."""
    listed(world, workers)
    gateway = world.start("gateway", MLSERVICE_LIVE__FILE="gateway.json", **more)
    wait_for(gateway.ready)
    wait_for(lambda: len(gateway.lines("is ready")) == len(workers))
    return gateway


def share(world: LiveToy, crowd: Crowd, worker: Process, answers: int = 500) -> float:
    """The part of the next answers that the worker predicts, by its own count of rows."""
    count = world.toy.folder / f"count-{worker.address}"
    before = count.stat().st_size if count.exists() else 0
    total = crowd.statuses.total()
    crowd.see(answers)
    return (count.stat().st_size - before) / (crowd.statuses.total() - total)


def counted(world: LiveToy, **more: str) -> Process:
    """A worker that counts its rows."""
    address = world.environ()
    port = address["MLSERVICE_WORKER__PORT"]
    count = world.toy.folder / f"count-127.0.0.1:{port}"
    worker = world.start("worker", MLSERVICE_WORKER__PORT=port, TOY_COUNT=str(count), **more)
    wait_for(worker.serves)
    return worker


def test_workers_are_added_and_removed_under_load_without_a_lost_request(world: LiveToy) -> None:
    first, second, third = (counted(world) for _ in range(3))
    gateway = gateway_of(world, [first])
    with Crowd(gateway) as crowd:
        listed(world, [first, second, third])
        wait_for(lambda: len(gateway.lines("is ready")) == 3)
        crowd.see(100)
        shares = [share(world, crowd, worker) for worker in (first, second, third)]
        listed(world, [third])
        wait_for(lambda: len(gateway.lines("is no longer listed")) == 2)
        crowd.see(100)
        assert share(world, crowd, first) == 0
        assert first.stop() == second.stop() == 0
        crowd.see(100)
    assert crowd.faults == []
    assert all(0.15 < part < 0.6 for part in shares), shares


def test_a_worker_that_is_killed_under_load_costs_no_request(world: LiveToy) -> None:
    workers = workers_of(world, 2, TOY_DELAY="0.005")
    gateway = gateway_of(world, workers)
    with Crowd(gateway, 32) as crowd:
        workers[0].process.kill()
        wait_for(lambda: gateway.lines(f"{workers[0].address} does not answer"))
        crowd.see(300)
    assert crowd.faults == []
    assert crowd.statuses.keys() == {200}


def test_a_worker_that_stops_under_load_costs_no_request(world: LiveToy) -> None:
    workers = workers_of(world, 2)
    gateway = gateway_of(world, workers)
    with Crowd(gateway) as crowd:
        assert workers[0].stop() == 0
        crowd.see(300)
    assert crowd.faults == []


def test_a_worker_that_comes_back_is_used_again(world: LiveToy) -> None:
    workers = workers_of(world, 2)
    gateway = gateway_of(world, workers)
    with Crowd(gateway) as crowd:
        workers[0].process.kill()
        workers[0].process.wait()
        wait_for(lambda: gateway.lines(f"{workers[0].address} does not answer"))
        port = workers[0].address.split(":")[1]
        count = world.toy.folder / f"count-{workers[0].address}"
        world.start("worker", MLSERVICE_WORKER__PORT=port, TOY_COUNT=str(count))
        wait_for(lambda: len(gateway.lines("is ready")) == 3)
        assert share(world, crowd, workers[0]) > 0.15
    assert crowd.faults == []


def test_a_worker_that_is_always_too_slow_is_left_out_however_well_it_says_it_is(
    world: LiveToy,
) -> None:
    quick = counted(world)
    slow = counted(world, TOY_DELAY="1.5", MLSERVICE_WORKER__STUCK_AFTER_MS="60000")
    gateway = gateway_of(world, [quick, slow])
    with Crowd(gateway, 4) as crowd:
        wait_for(lambda: gateway.lines(f"{slow.address} failed 3 times in a row"))
        time.sleep(1.1)  # what it still held runs out within its deadline of a second
        before = crowd.statuses[504]
        crowd.see(300)
    assert crowd.statuses.keys() == {200, 504}
    assert crowd.statuses[504] == before
    assert not gateway.lines(f"{quick.address} failed")


def test_callers_in_a_hurry_cost_no_worker_its_place(world: LiveToy) -> None:
    workers = [counted(world, TOY_DELAY="0.02") for _ in range(2)]
    gateway = gateway_of(world, workers)
    with Crowd(gateway, 4) as crowd:
        crowd.see(20)
        for _ in range(100):
            assert gateway.ask(timeout_ms=10)[0] in (503, 504)
    assert crowd.faults == []
    assert not gateway.lines("times in a row")


def test_one_of_two_workers_that_hangs_takes_only_what_it_holds(world: LiveToy) -> None:
    workers = workers_of(world, 2)
    gateway = gateway_of(world, workers)
    with Crowd(gateway, 16) as crowd:
        workers[0].process.send_signal(signal.SIGSTOP)
        try:
            wait_for(lambda: gateway.lines(f"{workers[0].address} does not answer"))
            time.sleep(1.1)  # what it still held runs out within its deadline of a second
            lost = len(crowd.faults)
            before = crowd.statuses[200]
            wait_for(lambda: crowd.statuses[200] > before + 500)
            assert len(crowd.faults) == lost
        finally:
            workers[0].process.send_signal(signal.SIGCONT)
    assert crowd.statuses.keys() <= {200, 504}
    assert crowd.slowest < 1.5


@pytest.mark.parametrize(
    "content", [b'{"format": 1, "workers": []}', b'{"format": 1}', b'{"format": 1, "wo', b""]
)
def test_a_list_that_is_empty_missing_or_cut_is_not_believed(
    world: LiveToy, content: bytes
) -> None:
    workers = workers_of(world, 2)
    gateway = gateway_of(world, workers)
    with Crowd(gateway) as crowd:
        world.put(content, "gateway.json")
        wait_for(lambda: gateway.lines("stay in use") or gateway.lines("the last good one stays"))
        crowd.see(200)
        workers[0].process.kill()
        wait_for(lambda: gateway.lines(f"{workers[0].address} does not answer"))
        crowd.see(200)
    assert crowd.faults == []
    workers[1].process.kill()
    wait_for(lambda: not gateway.ready())


def test_a_list_of_workers_that_still_start_takes_nobodys_answer_away(world: LiveToy) -> None:
    old = workers_of(world, 1)[0]
    gateway = gateway_of(world, [old])
    with Crowd(gateway) as crowd:
        port = world.environ()["MLSERVICE_WORKER__PORT"]
        world.write("gateway.json", workers=[f"127.0.0.1:{port}"])
        wait_for(lambda: gateway.lines(f"127.0.0.1:{port} does not answer"))
        crowd.see(200)
        world.start("worker", MLSERVICE_WORKER__PORT=port)
        wait_for(lambda: gateway.lines(f"{old.address} is no longer listed"))
        assert old.stop() == 0
        crowd.see(200)
    assert crowd.faults == []


def test_without_a_list_in_the_file_the_worker_of_the_settings_is_used(world: LiveToy) -> None:
    worker = workers_of(world, 1)[0]
    world.write("gateway.json")
    gateway = world.start(
        "gateway",
        MLSERVICE_LIVE__FILE="gateway.json",
        MLSERVICE_GATEWAY__WORKER=worker.address,
    )
    wait_for(gateway.ready)
    assert gateway.ask()[0] == 200


def test_a_gateway_that_knows_no_worker_says_so(world: LiveToy) -> None:
    world.write("gateway.json", workers=[])
    gateway = world.start("gateway", MLSERVICE_LIVE__FILE="gateway.json")

    def answer() -> tuple[int, dict[str, Any]]:
        try:
            return gateway.ask()
        except OSError:
            return 0, {}

    wait_for(lambda: answer()[0])
    status, problem = answer()
    assert (status, problem["detail"]) == (503, "no worker is known")
    listed(world, workers_of(world, 1))
    wait_for(gateway.ready)
    assert gateway.ask()[0] == 200


def test_rows_that_wait_leave_as_soon_as_there_is_another_worker() -> None:
    async def run() -> None:
        sent: list[bytes] = []
        most = 1

        async def send(batch: Batch) -> BatchReply:
            sent.append(batch.rows)
            if len(sent) == 1:
                await asyncio.sleep(5)
            return BatchReply([0.0], b"\0", "version")

        callers = Callers(send, max_rows=1, max_queue=10, max_in_flight=lambda: most)
        end = time.perf_counter() + 5
        rows = [asyncio.create_task(callers.submit(row, end)) for row in (b"slow", b"next")]
        await asyncio.sleep(0.05)
        assert sent == [b"slow"]
        most = 2
        callers.batcher.wake()
        async with asyncio.timeout(2):
            await rows[1]
        rows[0].cancel()

    asyncio.run(run())


def test_the_list_is_read_at_once_on_a_hangup(world: LiveToy) -> None:
    first, second = workers_of(world, 2)
    gateway = gateway_of(world, [first], MLSERVICE_LIVE__WATCH="false")
    listed(world, [first, second])
    gateway.process.send_signal(signal.SIGHUP)
    wait_for(lambda: len(gateway.lines("is ready")) == 2)
