"""The queue as its users and its operators meet it, on a real Kafka, also when things break."""

from __future__ import annotations

import json
import signal
import threading
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import count
from typing import Any

import pytest

from template_tests.support.kafka import Found, Kafka, kafka_node
from template_tests.support.live_toy import LiveToy, Process, opened, wait_for
from template_tests.support.servers import free_ports
from template_tests.support.toy_service import MakeToy

pytestmark = pytest.mark.servers

PARTITIONS = 4
NUMBERS = count(1)
QUICK = {
    "SESSION_TIMEOUT_MS": "6000",
    "HEARTBEAT_INTERVAL_MS": "500",
    "RECONNECT_BACKOFF_MAX_MS": "500",
}
"""Options of a group whose members are missed soon."""


@dataclass
class Queue:
    """Topics of their own, and the processes that answer them."""

    kafka: Kafka
    world: LiveToy
    worker: str
    number: int = field(default_factory=lambda: next(NUMBERS))

    def __post_init__(self) -> None:
        """Make the topics."""
        self.requests, self.answers, self.dead = (
            f"{name}-{self.number}" for name in ("requests", "answers", "dead")
        )
        self.group = f"group-{self.number}"
        self.kafka.create(self.requests, self.answers, self.dead, partitions=PARTITIONS)
        self.producer = self.kafka.producer()
        self.sent = 0

    def start(self, options: Mapping[str, str] = QUICK, **more: str) -> Process:
        """A process that answers; it is ready."""
        port, metrics = free_ports(2)
        started = self.world.start(
            "queue",
            **{
                "MLSERVICE_LIVE__FILE": "",
                "MLSERVICE_GATEWAY__WORKER": self.worker,
                "MLSERVICE_QUEUE__PORT": str(port),
                "MLSERVICE_QUEUE__METRICS_PORT": str(metrics),
                "MLSERVICE_QUEUE__BROKERS": self.kafka.brokers,
                "MLSERVICE_QUEUE__REQUESTS": self.requests,
                "MLSERVICE_QUEUE__ANSWERS": self.answers,
                "MLSERVICE_QUEUE__DEAD_LETTERS": self.dead,
                "MLSERVICE_QUEUE__GROUP": self.group,
                **{f"MLSERVICE_QUEUE__OPTIONS__{name}": value for name, value in options.items()},
                **more,
            },
        )
        self.metrics = f"http://127.0.0.1:{metrics}/metrics"
        wait_for(started.ready)
        return started

    def send(
        self, body: Any = None, key: str | None = None, age: float = 0, **headers: Any
    ) -> None:
        """Write a request; ``age`` is how many seconds ago it was written."""
        self.sent += 1
        value = body if isinstance(body, bytes | None) else json.dumps(body).encode()
        named: dict[str, bytes] = {n.replace("_", "-"): v.encode() for n, v in headers.items()}
        self.producer.produce(
            self.requests,
            value,
            key,
            headers=list(named.items()),
            timestamp=int((time.time() - age) * 1000),
        )
        self.producer.poll(0)

    def send_many(self, number: int, keys: int = 7) -> None:
        """Write requests whose ids are the number of their turn, dealt over the keys."""
        for _ in range(number):
            turn = self.sent
            self.send({"x": turn % 100 / 100}, f"key-{turn % keys}", x_request_id=f"r{turn}")
        self.producer.flush(20)

    def read(self, expected: int, seconds: float = 20) -> list[Found]:
        """The answers, when there are as many ids as are expected."""
        self.producer.flush(20)
        found: list[Found] = []

        def there() -> bool:
            found[:] = self.kafka.read(self.answers)
            return len({request_id(one) for one in found}) >= expected

        wait_for(there, seconds)
        return found

    def committed(self) -> int:
        """How many messages count as done."""
        return sum(self.kafka.committed(self.group, self.requests, PARTITIONS))

    def metric(self, name: str) -> float:
        """The sum of a metric over its labels."""
        with urllib.request.urlopen(self.metrics, timeout=5) as response:
            lines = response.read().decode().splitlines()
        return sum(float(line.split()[-1]) for line in lines if line.startswith(name))


@pytest.fixture(scope="module")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kafka]:
    with kafka_node(tmp_path_factory.mktemp("kafka")) as node:
        yield node


@pytest.fixture(scope="module")
def world(make_toy: MakeToy) -> Iterator[LiveToy]:
    with opened(make_toy()) as made:
        made.publish(made.model(1.0))
        yield made


@pytest.fixture(scope="module")
def worker(world: LiveToy) -> str:
    """The address of a worker that is there in all tests; it counts what it predicts."""
    return started_worker(world, TOY_COUNT=str(world.toy.folder / "count")).address


@pytest.fixture(scope="module")
def slow_worker(world: LiveToy) -> str:
    """The address of one that takes its time."""
    return started_worker(world, TOY_DELAY="0.05").address


@pytest.fixture
def queue(kafka: Kafka, world: LiveToy, worker: str) -> Iterator[Queue]:
    with ExitStack() as stack:
        outer, world.files = world.files, stack
        yield Queue(kafka, world, worker)
        world.files = outer


def started_worker(world: LiveToy, **more: str) -> Process:
    started = world.start("worker", **more)
    wait_for(started.serves)
    return started


def request_id(answer: Found) -> str:
    return answer.headers["x-request-id"].decode()


def status(answer: Found) -> int:
    return int(answer.headers["status"])


def in_order(answers: list[Found]) -> bool:
    """Whether the turns of each key rise, doubles apart."""
    seen: set[str] = set()
    last: dict[bytes | None, int] = {}
    for answer in answers:
        name = request_id(answer)
        if name not in seen:
            seen.add(name)
            turn = int(name.removeprefix("r"))
            if turn < last.get(answer.key, -1):
                return False
            last[answer.key] = turn
    return True


def test_a_message_is_answered_under_its_key_and_id(queue: Queue) -> None:
    queue.start()
    queue.send({"x": 0.25}, "a", x_request_id="mine", X_User_Id="u", trace="t")
    queue.send({"x": 0.5}, "b")
    queue.send({"x": 0.75}, x_request_id="no id, since it has spaces")
    answers = queue.read(3)
    assert {status(answer) for answer in answers} == {200}
    bodies = {request_id(answer): json.loads(answer.value or b"") for answer in answers}
    keys = {request_id(answer): answer.key for answer in answers}
    scores = {name: body["prediction"]["score"] for name, body in bodies.items()}
    assert all(body["request_id"] == name for name, body in bodies.items())
    assert (scores.pop("mine"), keys.pop("mine")) == (0.25, b"a")
    places = {
        f"{queue.requests}-{found.partition}-{found.offset}": json.loads(found.value or b"")["x"]
        for found in queue.kafka.read(queue.requests)
        if found.headers.get("x-request-id") != b"mine"
    }
    assert scores == places
    wait_for(lambda: queue.committed() == 3)
    assert queue.metric('mlservice_queue_messages_total{outcome="answered"}') == 3
    wait_for(lambda: queue.metric("mlservice_queue_lag") == 0)
    assert queue.kafka.read(queue.dead) == []


def test_it_follows_the_live_file_and_says_what_an_answer_was_given_without(
    queue: Queue, world: LiveToy
) -> None:
    world.write(
        "queue.json",
        workers=[{"address": queue.worker, "version": "stable"}],
        routing={"policy": "weights", "weights": {"stable": 1, "nobody": 1}},
    )
    queue.start(MLSERVICE_LIVE__FILE="queue.json")
    queue.send_many(30)
    answers = queue.read(30)
    assert {status(answer) for answer in answers} == {200}
    assert {answer.headers.get("x-fallback") for answer in answers} == {None, b"version"}


POISON: dict[str, tuple[bytes | dict[str, Any] | None, dict[str, Any], int, str]] = {
    "not JSON": (b"{", {}, 400, "not_json"),
    "bytes": (b"\xff\x00", {}, 400, "not_json"),
    "empty": (b"", {}, 400, "not_json"),
    "tombstone": (None, {}, 400, "not_json"),
    "contract": ({"x": 2, "y": 1}, {}, 422, "invalid_request"),
    "owner's rule": ({"x": 0.5, "note": "refuse"}, {}, 422, "invalid_request"),
    "header": ({"x": 0.5}, {"x-request-timeout-ms": "soon"}, 400, "invalid_header"),
    "user": ({"x": 0.5}, {"x-user-id": ""}, 400, "invalid_header"),
    "too large": ({"x": 0.5, "note": "n" * 2000}, {}, 413, "too_large"),
    "owner's bug": ({"x": 0.5, "note": "bug"}, {}, 500, "internal"),
    "model raises": ({"x": 0.5, "trouble": "raise"}, {}, 500, "prediction_failed"),
    "NaN": ({"x": 0.5, "trouble": "nan"}, {}, 500, "prediction_failed"),
}


def test_what_can_never_be_answered_goes_to_the_dead_letters_with_its_reason(
    queue: Queue,
) -> None:
    queue.start(MLSERVICE_GATEWAY__MAX_REQUEST_BYTES="1000")
    for name, (body, headers, _, _) in POISON.items():
        queue.send(body, "one-key", x_request_id=name.replace(" ", "-").replace("'", ""), **headers)
        queue.send({"x": 0.5}, "one-key")
    answers = queue.read(2 * len(POISON))
    assert Counter(map(status, answers))[200] == len(POISON)
    told = {request_id(answer): answer for answer in answers}
    wait_for(lambda: queue.committed() == 2 * len(POISON))
    dead = {found.headers["x-request-id"].decode(): found for found in queue.kafka.read(queue.dead)}
    assert len(dead) == len(POISON)
    requests = {(one.partition, one.offset): one for one in queue.kafka.read(queue.requests)}
    for name, (_, _, code, kind) in POISON.items():
        found = dead[name.replace(" ", "-").replace("'", "")]
        problem = json.loads(told[request_id(found)].value or b"")
        assert (problem["status"], status(told[request_id(found)])) == (code, code), name
        assert found.headers["x-dead-letter-code"].decode() == kind, name
        assert problem["detail"] in found.headers["x-dead-letter-reason"].decode(), name
        assert found.headers["x-dead-letter-topic"].decode() == queue.requests
        place = tuple(int(found.headers[f"x-dead-letter-{n}"]) for n in ("partition", "offset"))
        origin = requests[place[0], place[1]]
        assert (found.value, found.key) == (origin.value, origin.key)
        assert origin.headers.items() <= found.headers.items()
    reason = dead["contract"].headers["x-dead-letter-reason"].decode()
    assert "y: is unknown" in reason


def test_a_dead_letter_that_is_too_large_says_where_its_value_lies(queue: Queue) -> None:
    queue.start(MLSERVICE_GATEWAY__MAX_REQUEST_BYTES="1000")
    queue.send(b"n" * 999_900, "k", x_request_id="large")
    assert status(queue.read(1)[0]) == 413
    wait_for(lambda: queue.committed() == 1)
    (found,) = queue.kafka.read(queue.dead)
    assert found.value is None
    assert found.headers["x-dead-letter-omitted"] == b"value"
    assert found.headers["x-dead-letter-offset"] == b"0"


def test_a_deadline_counts_from_when_the_message_was_written(queue: Queue, world: LiveToy) -> None:
    counts = world.toy.folder / "count"
    before = counts.stat().st_size
    for number in range(5):
        queue.send({"x": 0.5}, age=10, x_request_timeout_ms="5000", x_request_id=f"late{number}")
    queue.send({"x": 0.5}, age=10, x_request_timeout_ms="60000", x_request_id="in-time")
    queue.send({"x": 0.5}, age=3600, x_request_id="patient")
    queue.start()
    answers = {request_id(answer): answer for answer in queue.read(7)}
    assert [status(answers[f"late{n}"]) for n in range(5)] == [504] * 5
    assert status(answers["in-time"]) == status(answers["patient"]) == 200
    assert json.loads(answers["late0"].value or b"")["type"].endswith("deadline_exceeded")
    wait_for(lambda: queue.committed() == 7)
    assert queue.kafka.read(queue.dead) == []
    assert counts.stat().st_size - before == 2


def test_an_outage_of_the_workers_loses_nothing(queue: Queue, world: LiveToy) -> None:
    port = str(free_ports(1)[0])
    queue.worker = f"127.0.0.1:{port}"
    first = started_worker(world, MLSERVICE_WORKER__PORT=port)
    consumer = queue.start()
    first.process.kill()
    wait_for(lambda: not consumer.ready())
    queue.send_many(50)
    queue.send({"x": 0.5}, "key-0", x_request_id="r50", x_request_timeout_ms="1000")
    wait_for(lambda: queue.metric("mlservice_queue_waits_total") > 10)
    wait_for(lambda: queue.metric("mlservice_queue_lag") == 51)
    time.sleep(1)
    assert queue.kafka.read(queue.dead) == []
    assert queue.committed() == 0
    started_worker(world, MLSERVICE_WORKER__PORT=port)
    answers = queue.read(51)
    assert Counter(map(status, answers)) == {200: 50, 504: 1}
    assert in_order(answers)
    wait_for(lambda: queue.committed() == 51)
    assert queue.kafka.read(queue.dead) == []


def test_a_message_that_kills_workers_is_given_up_and_the_others_are_answered(
    queue: Queue, world: LiveToy
) -> None:
    port = str(free_ports(1)[0])
    queue.worker = f"127.0.0.1:{port}"
    over = threading.Event()
    starts = []

    def supervise() -> None:
        while not over.is_set():
            starts.append(
                started_worker(
                    world,
                    MLSERVICE_WORKER__PORT=port,
                    MLSERVICE_WORKER__STUCK_AFTER_MS="200",
                    MLSERVICE_WORKER__GIVE_UP_AFTER_MS="600",
                )
            )
            starts[-1].process.wait()

    supervisor = threading.Thread(target=supervise)
    supervisor.start()
    try:
        queue.start()
        queue.send_many(10)
        queue.send({"x": 0.5, "trouble": "hang"}, "poison", x_request_id="r10")
        queue.send({"x": 0.5}, "poison", x_request_id="r11")
        queue.sent = 12
        queue.send_many(10)
        answers = queue.read(22, 40)
    finally:
        over.set()
        starts[-1].process.terminate()
        supervisor.join()
    told = {request_id(answer): status(answer) for answer in answers}
    assert told.pop("r10") == 500
    assert set(told.values()) == {200}
    (dead,) = queue.kafka.read(queue.dead)
    assert "worker died" in dead.headers["x-dead-letter-reason"].decode()
    assert len(starts) == 4
    assert in_order(answers)


def test_what_is_in_flight_is_bounded_and_one_key_keeps_its_order(
    queue: Queue, slow_worker: str
) -> None:
    queue.worker = slow_worker
    queue.send_many(200, keys=20)
    queue.start(MLSERVICE_QUEUE__MOST_IN_FLIGHT="10")
    most = 0.0
    seen: list[float] = []

    def done() -> bool:
        seen.append(queue.metric("mlservice_queue_in_flight"))
        return queue.metric("mlservice_queue_messages_total") == 200

    wait_for(done)
    most = max(seen)
    assert 2 < most <= 10
    assert in_order(queue.read(200))


def test_sigterm_in_the_middle_commits_what_is_answered_and_loses_nothing(
    queue: Queue, slow_worker: str
) -> None:
    queue.worker = slow_worker
    queue.send_many(600, keys=50)
    first = queue.start(MLSERVICE_QUEUE__MOST_IN_FLIGHT="20")
    wait_for(lambda: queue.metric("mlservice_queue_messages_total") > 100)
    start = time.monotonic()
    assert first.stop() == 0
    assert time.monotonic() - start < 5
    answers = queue.kafka.read(queue.answers)
    assert 100 < len(answers) < 600
    assert len({request_id(answer) for answer in answers}) == len(answers) == queue.committed()
    queue.start()
    answers = queue.read(600)
    assert len(answers) == 600, "nothing was answered twice"
    assert in_order(answers)


def test_a_consumer_that_is_killed_loses_nothing_and_its_doubles_have_one_id(
    queue: Queue, slow_worker: str
) -> None:
    queue.worker = slow_worker
    for turn in range(400):
        queue.send({"x": 0.5}, f"key-{turn % 30}")
    first = queue.start(
        {"SESSION_TIMEOUT_MS": "2000", "HEARTBEAT_INTERVAL_MS": "300"},
        MLSERVICE_QUEUE__MOST_IN_FLIGHT="20",
        MLSERVICE_QUEUE__OPTIONS__AUTO_COMMIT_INTERVAL_MS="60000",
    )
    wait_for(lambda: queue.metric("mlservice_queue_messages_total") > 100)
    first.process.send_signal(signal.SIGKILL)
    queue.start()
    wait_for(lambda: queue.committed() == 400)
    answers = queue.kafka.read(queue.answers)
    assert len(answers) > 400
    assert len({request_id(answer) for answer in answers}) == 400


@pytest.mark.parametrize("protocol", ["classic", "consumer"])
def test_a_rebalance_loses_no_answer_and_keeps_the_order(
    queue: Queue, slow_worker: str, protocol: str
) -> None:
    # With the newer protocol the brokers set the times.
    options = QUICK if protocol == "classic" else {"GROUP_PROTOCOL": protocol}
    queue.worker = slow_worker
    over = threading.Event()

    def write() -> None:
        while not over.is_set():
            queue.send_many(20, keys=50)
            time.sleep(0.1)

    first = queue.start(options, MLSERVICE_QUEUE__MOST_IN_FLIGHT="40")
    writer = threading.Thread(target=write)
    writer.start()
    try:
        wait_for(lambda: queue.metric("mlservice_queue_messages_total") > 50)
        second = queue.start(options, MLSERVICE_QUEUE__MOST_IN_FLIGHT="40")
        wait_for(lambda: queue.metric("mlservice_queue_messages_total") > 50)
        assert first.says("are revoked")
        assert second.stop() == 0
        time.sleep(0.5)
    finally:
        over.set()
        writer.join()
    answers = queue.read(queue.sent)
    assert in_order(answers)
    doubles = Counter(map(request_id, answers)) - Counter(set(map(request_id, answers)))
    assert not doubles, "nobody died, so nothing is answered twice"
    assert first.stop() == 0
    assert queue.committed() == queue.sent


def test_kafka_may_go_away_for_a_minute_and_come_back(queue: Queue, kafka: Kafka) -> None:
    stayed = queue.start()
    ended = queue.start()
    queue.send_many(200)
    queue.read(50)
    kafka.stop()
    try:
        wait_for(lambda: not stayed.ready())
        start = time.monotonic()
        assert ended.stop() == 0
        assert time.monotonic() - start < 10
        for turn in range(200, 300):
            queue.send({"x": 0.5}, f"key-{turn % 7}", x_request_id=f"r{turn}")
        time.sleep(max(0, start + 60 - time.monotonic()))
        assert stayed.process.poll() is None
    finally:
        kafka.start()
    answers = queue.read(300, 40)
    assert stayed.process.poll() is None
    assert in_order(answers)
    assert {status(answer) for answer in answers} == {200}
    wait_for(stayed.ready)
    wait_for(lambda: queue.committed() == 300)
