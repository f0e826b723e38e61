"""A gateway in trouble: too much to do, workers that fail, callers that leave or insist."""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent import futures
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from mlservice.protocol import predict_pb2_grpc
from template_tests.support.live_toy import Crowd, LiveToy, Process, opened, wait_for
from template_tests.support.toy_service import MakeToy


@pytest.fixture
def world(make_toy: MakeToy) -> Iterator[LiveToy]:
    with opened(make_toy()) as made:
        made.publish(made.model(1.0))
        yield made


def gateway_of(world: LiveToy, *addresses: str, **more: str) -> Process:
    world.write("gateway.json", workers=list(addresses))
    gateway = world.start("gateway", MLSERVICE_LIVE__FILE="gateway.json", **more)
    wait_for(lambda: len(gateway.lines("is ready")) == len(addresses))
    wait_for(gateway.ready)
    return gateway


def worker_of(world: LiveToy, **more: str) -> Process:
    worker = world.start("worker", **more)
    wait_for(worker.serves)
    return worker


def ask(gateway: Process, x: float, timeout_ms: int = 1000) -> tuple[int, float, dict[str, str]]:
    """Status, seconds and headers of one request."""
    connection = http.client.HTTPConnection(gateway.address, timeout=30)
    start = time.monotonic()
    try:
        headers = {"X-Request-Timeout-Ms": str(timeout_ms)}
        connection.request("POST", "/v1/predict", json.dumps({"x": x}), headers)
        response = connection.getresponse()
        response.read()
        kept = {name.lower(): value for name, value in response.getheaders()}
        return response.status, time.monotonic() - start, kept
    finally:
        connection.close()


def at_once(count: int, call: Callable[[int], Any]) -> list[Any]:
    with futures.ThreadPoolExecutor(count) as pool:
        return list(pool.map(call, range(count)))


def test_a_crowd_gets_as_many_answers_as_there_can_be_and_the_rest_is_told_at_once(
    world: LiveToy,
) -> None:
    worker = worker_of(world, TOY_DELAY="0.1")  # 40 rows a second at most, in batches of four
    gateway = gateway_of(world, worker.address, MLSERVICE_GATEWAY__MAX_BATCH_ROWS="4")
    stop = threading.Event()
    found: list[tuple[float, int, float, dict[str, str]]] = []

    def insist(number: int) -> None:
        while not stop.is_set():
            status, seconds, headers = ask(gateway, number / 100)
            found.append((time.monotonic(), status, seconds, headers))
            time.sleep(0.02 if status == 200 else 0.2)

    def faults() -> list[str]:
        """What is wrong with the last three seconds."""
        last = [item for item in list(found) if item[0] > time.monotonic() - 3]
        statuses = Counter(status for _, status, _, _ in last)
        refused = sorted(seconds for _, status, seconds, _ in last if status == 503)
        judged = {
            f"few answers: {statuses}": statuses[200] > 0.7 * 3 * 40,
            f"late ones: {statuses}": statuses[504] < 0.1 * statuses[200],
            f"few refusals: {statuses}": len(refused) > 50,
            "slow refusals": len(refused) > 50 and refused[len(refused) // 2] < 0.3,
        }
        return [fault for fault, holds in judged.items() if not holds]

    # A gateway learns how slow its worker is, and keeps to it; a machine that was busy with others
    # for a moment is given the time to come back to that.
    with futures.ThreadPoolExecutor(80) as crowd:
        asking = [crowd.submit(insist, number) for number in range(80)]
        try:
            time.sleep(5)
            end = time.monotonic() + 25
            while (wrong := faults()) and time.monotonic() < end:
                time.sleep(0.5)
        finally:
            stop.set()
        for asked in asking:
            asked.result()
    assert wrong == []
    assert {status for _, status, _, _ in found} <= {200, 503, 504}
    refused = [headers for _, status, _, headers in found if status == 503]
    assert all(int(headers["retry-after"]) >= 1 for headers in refused)


class Failing(predict_pb2_grpc.PredictorServicer):
    """A worker that says it is well and fails every batch: no real one does so when asked to."""

    def __init__(self) -> None:
        self.batches = 0

    def Predict(self, request_iterator: Any, context: grpc.ServicerContext) -> Any:  # noqa: N802
        for _ in request_iterator:
            self.batches += 1
            context.abort(grpc.StatusCode.INTERNAL, "out of order")
        yield from ()


@contextlib.contextmanager
def failing() -> Iterator[tuple[str, Failing]]:
    server = grpc.server(futures.ThreadPoolExecutor(20))
    servicer = Failing()
    predict_pb2_grpc.add_PredictorServicer_to_server(servicer, server)
    healthy = health.HealthServicer()
    healthy.set("", health_pb2.HealthCheckResponse.SERVING)
    health_pb2_grpc.add_HealthServicer_to_server(healthy, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield f"127.0.0.1:{port}", servicer
    finally:
        server.stop(1).wait()


def test_a_worker_that_fails_is_left_out_and_nobody_notices(world: LiveToy) -> None:
    worker = worker_of(world)
    with failing() as (address, servicer):
        gateway = gateway_of(world, worker.address, address)
        with Crowd(gateway) as crowd:
            wait_for(lambda: gateway.lines("failed 3 times in a row: not used for 5 s"))
            before = servicer.batches
            crowd.see(500)
            assert servicer.batches - before <= 3
        assert crowd.faults == []


def test_retries_do_not_double_the_load_of_workers_that_all_fail(world: LiveToy) -> None:
    with failing() as (first, one), failing() as (second, two):
        gateway = gateway_of(world, first, second, MLSERVICE_GATEWAY__MAX_BATCH_ROWS="1")
        statuses = Counter(status for status, _, _ in at_once(20, lambda _: ask(gateway, 0.5)))
        for _ in range(10):
            statuses += Counter(s for s, _, _ in at_once(20, lambda _: ask(gateway, 0.5)))
        assert set(statuses) == {503}
        # 220 batches, a tenth of them again, 20 saved up, two a second.
        assert one.batches + two.batches <= 220 + 22 + 20 + 20


def test_callers_that_leave_in_a_storm_harm_nobody(world: LiveToy) -> None:
    worker = worker_of(world, TOY_DELAY="0.02")
    gateway = gateway_of(world, worker.address)
    host, port = gateway.address.split(":")
    body = json.dumps({"x": 0.5}).encode()
    head = b"POST /v1/predict HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(body)

    def leave(number: int) -> None:
        for _ in range(20):
            with socket.create_connection((host, int(port)), timeout=5) as caller:
                caller.sendall((head + body)[: len(head) + number % (len(body) + 1)])

    with Crowd(gateway, 4) as crowd:
        at_once(30, leave)
        crowd.see(50)
    assert crowd.faults == []
    assert crowd.slowest < 2
    assert gateway.ask()[0] == 200


def test_nothing_is_predicted_for_callers_who_have_left(world: LiveToy) -> None:
    count = world.toy.folder / "count"
    worker = worker_of(
        world, TOY_COUNT=str(count), TOY_DELAY="1.5", MLSERVICE_WORKER__STUCK_AFTER_MS="60000"
    )
    gateway = gateway_of(world, worker.address)
    before = count.stat().st_size
    busy = [threading.Thread(target=ask, args=(gateway, 0.1, 9000)) for _ in range(2)]
    for thread in busy:
        thread.start()
        time.sleep(0.2)  # so that each has a batch of its own
    host, port = gateway.address.split(":")
    body = b'{"x": 0.5}'
    head = b"POST /v1/predict HTTP/1.1\r\nHost: t\r\nX-Request-Timeout-Ms: 9000\r\n"
    with contextlib.ExitStack() as callers:
        for _ in range(20):
            caller = callers.enter_context(socket.create_connection((host, int(port)), timeout=5))
            caller.sendall(head + b"Content-Length: %d\r\n\r\n" % len(body) + body)
        time.sleep(0.2)  # they wait in the gateway by now
    for thread in busy:
        thread.join()
    status, _, _ = ask(gateway, 0.9, 9000)
    assert status == 200
    assert count.stat().st_size - before == 3


UPSTREAMS = '''"""An upstream that takes its time."""

import time

from mlservice import Upstream


def slowly(query):
    time.sleep(0.8)
    return {"note": "late"}


UPSTREAMS = (
    Upstream("nested", "/slow", lambda request: {"x": str(request["x"])}, {"y": 1}, slowly, 2000),
)
'''


def test_nothing_is_predicted_for_those_whose_time_ran_out(world: LiveToy) -> None:
    (world.toy.folder / "src" / "toy" / "upstreams.py").write_text(UPSTREAMS, "utf-8")
    schemas = world.toy.folder / "contracts" / "upstreams"
    schemas.mkdir()
    (schemas / "nested.schema.json").write_text("{}", "utf-8")
    (port,) = world.environ()["MLSERVICE_GATEWAY__PORT"].split()
    stand_ins = world.files.enter_context(world.toy.start("serve", "stand-ins", "--port", port))
    world.files.callback(stand_ins.terminate)
    wait_for(lambda: listens(int(port)))
    count = world.toy.folder / "count"
    patience = {"MLSERVICE_WORKER__STUCK_AFTER_MS": "60000"}
    # Slow enough for the crowd to come and go while the worker is busy with its first batch.
    worker = worker_of(world, TOY_COUNT=str(count), TOY_DELAY="3", **patience)
    before = count.stat().st_size
    upstreams = {"nested": [f"http://127.0.0.1:{port}/nested"]}
    world.write("gateway.json", workers=[worker.address], upstreams=upstreams)
    gateway = world.start("gateway", MLSERVICE_LIVE__FILE="gateway.json")
    wait_for(gateway.ready)
    busy = [threading.Thread(target=ask, args=(gateway, 0.1, 9000)) for _ in range(2)]
    busy[0].start()
    wait_for(lambda: count.stat().st_size == before + 1)  # the worker has begun the first batch
    busy[1].start()
    time.sleep(0.1)  # and the second waits for it
    found = at_once(20, lambda n: ask(gateway, 0.5 + n / 100, 150))
    assert {status for status, _, _ in found} <= {503, 504}
    assert max(seconds for _, seconds, _ in found) < 0.6
    assert count.stat().st_size - before == 1
    for thread in busy:
        thread.join()
    time.sleep(0.7)
    assert count.stat().st_size - before == 2

    quick = worker_of(world, TOY_DELAY="0.5")
    world.write("gateway.json", workers=[quick.address], upstreams=upstreams)
    wait_for(lambda: len(gateway.lines("is ready")) == 2)
    status, _, headers = ask(gateway, 0.9, 3000)
    assert (status, headers.get("x-fallback")) == (200, None)
    status, _, headers = ask(gateway, 0.92, 1500)  # of which upstreams may have a half
    assert (status, headers.get("x-fallback")) == (200, "nested")


def listens(port: int) -> bool:
    with contextlib.suppress(OSError):
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
        return True
    return False
