"""The service as its callers and its operators meet it, also when things break."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import signal
import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc.aio
import httpx2
import pytest

from mlservice.local import LocalService, free_ports
from mlservice.prediction.workers.stream import BatchStream
from mlservice.protocol import predict_pb2, predict_pb2_grpc
from mlservice.protocol.packing import features_digest, pack_timeouts, unpack_scores
from template_tests.support.calls import post, ready
from template_tests.support.live_toy import wait_for
from template_tests.support.toy_service import MakeToy, Toy


@contextlib.contextmanager
def served(toy: Toy, model: str, **environ: str) -> Iterator[LocalService]:
    """The toy's model, served on free ports."""
    places = free_ports({**toy.environ, **environ})
    with LocalService(toy.folder, places, model, toy.folder / "logs") as service:
        yield service


@pytest.fixture(scope="module")
def trained(make_toy: MakeToy) -> tuple[Toy, str]:
    toy = make_toy()
    return toy, toy.train()


@pytest.fixture(scope="module")
def service(trained: tuple[Toy, str]) -> Iterator[LocalService]:
    with served(*trained) as running:
        yield running


# Good requests ---------------------------------------------------------------------------


def test_an_answer_carries_score_version_and_the_callers_request_id(
    service: LocalService,
) -> None:
    status, answer, _ = post(service.url, {"x": 0.25}, X_Request_Id="abc-1")
    assert status == 200
    assert answer["prediction"] == {"score": 0.25}
    assert answer["request_id"] == "abc-1"
    assert answer["model_version"]


def test_every_caller_of_a_crowd_gets_its_own_answer(service: LocalService) -> None:
    async def crowd() -> None:
        limits = httpx2.Limits(max_connections=64)
        async with httpx2.AsyncClient(limits=limits, timeout=30) as client:
            numbers = [n / 2000 for n in range(2000)]
            answers = await asyncio.gather(
                *(client.post(f"{service.url}/v1/predict", json={"x": x}) for x in numbers)
            )
        assert [a.json()["prediction"]["score"] for a in answers] == numbers

    asyncio.run(crowd())


# Bad requests ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"", "not_json"),
        (b"{", "not_json"),
        (b'{"x": NaN}', "not_json"),
        (b'{"x": Infinity}', "not_json"),
        (b'{"x": 1e999}', "not_json"),
        (b'{"x": "\xff"}', "not_json"),
        (b'{"x": 0.5, "nested": ' + b'{"y":' * 3000 + b"1" + b"}" * 3001, "not_json"),
        (b'{"x": 0.5, "nested": ' + b'{"y":' * 300 + b"1" + b"}" * 301, "not_json"),
        (b'{"x": 0.5, "\\u006e": ' + b"[" * 300 + b"]" * 300 + b"}", "not_json"),
        (b'{"x": 0.5, "x": 0.6}', "repeated_key"),
        (b'{"x": 0.5, "\\u0078": 0.6}', "repeated_key"),
        (b'{"x": 0.5, "nested": {"y": 1, "y": 2}}', "repeated_key"),
    ],
)
def test_what_is_no_plain_json_is_refused_with_400(
    service: LocalService, body: bytes, code: str
) -> None:
    status, answer, headers = post(service.url, body)
    assert (status, answer["type"]) == (400, f"urn:mlservice:problem:{code}")
    assert headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize(
    ("body", "field", "rule"),
    [
        ({}, "x", "missing"),
        ({"x": "0.5"}, "x", "number"),
        ({"x": None}, "x", "number"),
        ({"x": 2}, "x", "maximum of 1"),
        ({"x": 0.5, "y": 1}, "y", "unknown"),
        ({"x": 0.5, "trouble": "ZZ"}, "trouble", "not one of"),
        ({"x": 0.5, "nested": {"y": "a"}}, "nested/y", "integer"),
        ({"x": 0.5, "note": "refuse"}, "note", "not wanted"),
        ([1], "(the whole message)", "object"),
    ],
)
def test_what_breaks_the_contract_is_refused_by_field_value_and_rule(
    service: LocalService, body: Any, field: str, rule: str
) -> None:
    status, answer, _ = post(service.url, json.dumps(body).encode())
    assert status == 422
    (fault,) = answer["faults"]
    assert fault["field"] == field
    assert rule in fault["rule"]
    if isinstance(body, dict) and field in body:
        assert fault["value"] == body[field]


def test_all_faults_of_a_request_are_named_at_once(service: LocalService) -> None:
    _, answer, _ = post(service.url, {"x": 7, "y": 1, "trouble": "?"})
    assert {fault["field"] for fault in answer["faults"]} == {"x", "y", "trouble"}


def test_ten_megabytes_are_refused_whether_announced_or_streamed(service: LocalService) -> None:
    assert post(service.url, b"[" + b" " * 10_000_000 + b"]")[0] == 413
    chunks = (b" " * 100_000 for _ in range(100))
    answer = httpx2.post(f"{service.url}/v1/predict", content=chunks)
    assert answer.status_code == 413


def test_other_methods_and_paths_and_headers_are_refused(service: LocalService) -> None:
    answer = httpx2.get(f"{service.url}/v1/predict")
    assert (answer.status_code, answer.headers["allow"]) == (405, "POST")
    assert httpx2.get(f"{service.url}/v1/nothing").status_code == 404
    for wish in ("soon", "0", "-1", "9" * 20, "0" * 9 + "19999999999", "1" + "0" * 5000):
        status, problem, _ = post(service.url, {"x": 0.5}, X_Request_Timeout_Ms=wish)
        assert (status, problem["faults"][0]["value"]) == (400, wish[:80])


POSTED = b"POST /v1/predict HTTP/1.1\r\nHost: t\r\nContent-Length: 10\r\n"
BODY = b'{"x": 0.5}'


@pytest.mark.parametrize(
    ("sent", "answers"),
    [
        ((POSTED + b"\r\n" + BODY,) * 2, (b"200 OK", b"200 OK")),
        ((2 * (POSTED + b"\r\n" + BODY),), (b"200 OK", b"200 OK")),
        ((POSTED + b"Expect: 100-continue\r\n\r\n", BODY), (b"100 Continue", b"200 OK")),
        ((b"HEAD /live HTTP/1.1\r\nHost: t\r\n\r\n",), (b"405 Method Not Allowed",)),
        ((b"nonsense\r\n\r\n",), (b"400 Bad Request",)),
    ],
    ids=["one after the other", "pipelined", "asks before it sends", "HEAD", "nonsense"],
)
def test_each_answer_comes_on_its_connection_at_once(
    service: LocalService, sent: tuple[bytes, ...], answers: tuple[bytes, ...]
) -> None:
    host, port = service.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=5) as connection:
        come = b""
        for number, part in enumerate(sent, 1):
            connection.sendall(part)
            wanted = answers[:number] if number < len(sent) else answers
            while come.count(b"HTTP/1.1 ") < len(wanted):
                come += connection.recv(65536)
        found = [part.split(b"\r\n")[0] for part in come.split(b"HTTP/1.1 ")[1:]]
    assert tuple(found) == answers


def test_a_bug_of_the_owners_is_a_500_without_internals(service: LocalService) -> None:
    status, answer, _ = post(service.url, {"x": 0.5, "note": "bug"}, X_Request_Id="find-me")
    assert status == 500
    assert "KeyError" not in json.dumps(answer)


# A model that makes trouble --------------------------------------------------------------


@pytest.mark.parametrize("trouble", ["raise", "nan", "inf", "drop", "exit"])
def test_trouble_of_one_row_is_a_500_of_its_own(service: LocalService, trouble: str) -> None:
    status, answer, _ = post(service.url, {"x": 0.5, "trouble": trouble})
    assert (status, answer["type"]) == (500, "urn:mlservice:problem:prediction_failed")
    assert post(service.url, {"x": 0.5})[0] == 200


def test_a_score_that_breaks_the_response_contract_never_leaves(make_toy: MakeToy) -> None:
    toy = make_toy()
    response = toy.folder / "contracts" / "response.schema.json"
    response.write_text(response.read_text("utf-8").replace('"maximum": 1', '"maximum": 0.5'))
    with served(toy, toy.train()) as service:
        assert post(service.url, {"x": 0.4})[0] == 200
        status, answer, _ = post(service.url, {"x": 0.9})
    assert (status, answer["type"]) == (500, "urn:mlservice:problem:invalid_response")


def test_bad_rows_fail_alone_in_a_crowd(service: LocalService) -> None:
    chooser = random.Random(7)
    bodies: list[dict[str, Any]] = [
        {"x": n / 1000, "trouble": chooser.choice(["raise", "nan", "inf", "exit"])}
        if n % 50 == 0
        else {"x": n / 1000}
        for n in range(1000)
    ]

    async def crowd() -> list[httpx2.Response]:
        async with httpx2.AsyncClient(timeout=30) as client:
            calls = (client.post(f"{service.url}/v1/predict", json=body) for body in bodies)
            return await asyncio.gather(*calls)

    for body, answer in zip(bodies, asyncio.run(crowd()), strict=True):
        if "trouble" in body:
            assert answer.status_code == 500
        else:
            assert answer.json()["prediction"]["score"] == body["x"]


def test_a_hanging_model_is_known_in_two_seconds_and_the_worker_is_started_anew(
    trained: tuple[Toy, str],
) -> None:
    with served(*trained) as service:
        hang = threading.Thread(
            target=post, args=(service.url, {"x": 0.1, "trouble": "hang"}), daemon=True
        )
        hang.start()
        assert wait_for(lambda: not ready(service.url), 2.5) < 2.5
        status, answer, headers = post(service.url, {"x": 0.5})
        assert (status, headers["retry-after"]) == (503, "1")
        assert "cannot predict" in answer["detail"]
        wait_for(lambda: service.processes["worker"].poll() == 70, 8)
        service.restart_dead()
        wait_for(lambda: ready(service.url), 20)
        assert post(service.url, {"x": 0.5})[0] == 200


# Deadlines -------------------------------------------------------------------------------


def test_short_deadlines_against_a_slow_model_leave_it_well_and_unworked(
    trained: tuple[Toy, str], tmp_path: Path
) -> None:
    count = tmp_path / "count"

    async def calls(url: str, number: int, timeout_ms: int) -> list[httpx2.Response]:
        async with httpx2.AsyncClient(timeout=60) as client:
            headers = {"X-Request-Timeout-Ms": str(timeout_ms)}
            return await asyncio.gather(
                *(
                    client.post(f"{url}/v1/predict", json={"x": n / number}, headers=headers)
                    for n in range(number)
                )
            )

    with served(*trained, TOY_DELAY="0.05", TOY_COUNT=str(count)) as service:
        before = count.stat().st_size
        short = asyncio.run(calls(service.url, 500, 5))
        predicted = count.stat().st_size - before
        normal = asyncio.run(calls(service.url, 100, 10_000))
    assert {answer.status_code for answer in short} == {504}
    assert predicted < 250, "rows whose time had run out were predicted all the same"
    scores = [answer.json()["prediction"]["score"] for answer in normal]
    assert scores == [n / 100 for n in range(100)]


def test_a_deadline_is_answered_when_it_ends_not_when_the_model_does(
    trained: tuple[Toy, str], tmp_path: Path
) -> None:
    count = tmp_path / "count"
    with served(*trained, TOY_DELAY="0.8", TOY_COUNT=str(count)) as service:
        before = count.stat().st_size
        slow = [
            threading.Thread(target=post, args=(service.url, {"x": 0.1}), daemon=True)
            for _ in range(1)
        ]
        for thread in slow:
            thread.start()
        time.sleep(0.1)
        start = time.monotonic()
        results: list[int] = []

        def ask() -> None:
            results.append(post(service.url, {"x": 0.5}, X_Request_Timeout_Ms="300")[0])

        threads = [threading.Thread(target=ask) for _ in range(50)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        took = time.monotonic() - start
        time.sleep(1.5)
        predicted = count.stat().st_size - before
    assert results == [504] * 50
    assert took < 0.8
    assert predicted == 1, "only the first request was worth predicting"


# Processes that die and stop --------------------------------------------------------------


def test_a_killed_worker_means_503_at_once_and_recovery_by_itself(
    trained: tuple[Toy, str],
) -> None:
    statuses: Counter[int] = Counter()
    slowest = 0.0
    stop = threading.Event()

    def load(url: str) -> None:
        nonlocal slowest
        while not stop.is_set():
            start = time.monotonic()
            status, _, headers = post(url, {"x": 0.5})
            slowest = max(slowest, time.monotonic() - start)
            statuses[status] += 1
            assert status == 200 or headers["retry-after"] == "1"

    with served(*trained) as service:
        threads = [threading.Thread(target=load, args=(service.url,)) for _ in range(8)]
        for thread in threads:
            thread.start()
        time.sleep(0.5)
        service.processes["worker"].kill()
        wait_for(lambda: not ready(service.url), 2)
        service.restart_dead()
        wait_for(lambda: ready(service.url), 20)
        before = statuses[200]
        wait_for(lambda: statuses[200] > before + 50, 10)
        stop.set()
        for thread in threads:
            thread.join()
    assert set(statuses) == {200, 503}
    assert slowest < 1.5, "every caller has its answer within its deadline"


def test_a_worker_that_is_told_to_stop_first_answers_what_it_took(
    trained: tuple[Toy, str],
) -> None:
    answers: list[int] = []
    with served(*trained, TOY_DELAY="0.5") as service:
        ask = threading.Thread(target=lambda: answers.append(post(service.url, {"x": 0.5})[0]))
        ask.start()
        time.sleep(0.2)
        start = time.monotonic()
        service.processes["worker"].terminate()
        assert service.processes["worker"].wait(10) == 0
        took = time.monotonic() - start
        ask.join()
    assert answers == [200]
    assert took < 3, "the gateway's open stream kept the worker from stopping"


def test_the_batches_of_a_stream_are_answered_in_order_and_none_past_its_time(
    trained: tuple[Toy, str], tmp_path: Path
) -> None:
    """Time runs while a batch waits behind another one, and only what is live is predicted."""
    count = tmp_path / "count"

    async def ask(address: str) -> list[predict_pb2.PredictReply]:
        async with grpc.aio.insecure_channel(address) as channel:
            stream = BatchStream(predict_pb2_grpc.PredictorStub(channel).Predict)
            replies = await asyncio.gather(
                *(
                    stream.send(
                        predict_pb2.PredictRequest(
                            rows=struct.pack("<2d", x, 0),
                            count=1,
                            timeouts_ms=pack_timeouts([timeout]),
                            features=features_digest(("x", "trouble")),
                        )
                    )
                    for x, timeout in ((0.1, 5000), (0.2, 100), (0.3, 5000))
                )
            )
            await stream.close()
            return replies

    with served(*trained, TOY_DELAY="0.3", TOY_COUNT=str(count)) as service:
        before = count.stat().st_size
        replies = asyncio.run(ask(service.worker_address))
        predicted = count.stat().st_size - before
    assert [bytes(reply.statuses) for reply in replies] == [b"\0", b"\1", b"\0"]
    assert [unpack_scores(reply.scores)[0] for reply in (replies[0], replies[2])] == [0.1, 0.3]
    assert predicted == 2


def test_without_a_worker_it_is_alive_but_not_ready(trained: tuple[Toy, str]) -> None:
    toy, _ = trained
    places = free_ports(toy.environ)
    gateway = toy.start("serve", "gateway", **places)
    url = f"http://127.0.0.1:{places['MLSERVICE_GATEWAY__PORT']}"

    def alive() -> bool:
        try:
            return httpx2.get(f"{url}/live").status_code == 200
        except httpx2.ConnectError:
            return False

    try:
        wait_for(alive, 20)
        assert not ready(url)
        status, _, headers = post(url, {"x": 0.5})
        assert (status, headers["retry-after"]) == (503, "1")
        assert post(url, b"{")[0] == 400, "a bad request is told so, worker or not"
    finally:
        gateway.terminate()
        gateway.communicate(timeout=20)


@pytest.mark.parametrize("processes", ["1", "3"])
def test_sigterm_at_full_load_loses_no_request(trained: tuple[Toy, str], processes: str) -> None:
    """Callers on kept-alive connections leave with an answer each and are never cut off.

    They do not come back: an instance that is not ready gets no new callers.
    """
    lost: list[str] = []
    answered: Counter[int] = Counter()

    def load(address: tuple[str, int], stopped: threading.Event) -> None:
        body = b'{"x": 0.5}'
        head = b"POST /v1/predict HTTP/1.1\r\nHost: t\r\nContent-Length: %d\r\n\r\n" % len(body)
        connection = socket.create_connection(address, timeout=10)
        with connection, connection.makefile("rb") as stream:
            while not stopped.is_set():
                try:
                    connection.sendall(head + body)
                    status = stream.readline()
                    headers = {}
                    while (line := stream.readline()) not in (b"\r\n", b""):
                        name, _, value = line.partition(b":")
                        headers[name.lower()] = value.strip()
                    stream.read(int(headers.get(b"content-length", b"0")))
                except OSError as error:
                    lost.append(repr(error))
                    return
                if not status:
                    lost.append("the connection was closed on a request")
                    return
                answered[int(status.split()[1])] += 1
                if headers.get(b"connection") == b"close":
                    return

    stopped = threading.Event()
    with served(*trained, MLSERVICE_GATEWAY__PROCESSES=processes) as service:
        gateway = service.processes["gateway"]
        host, port = service.url.removeprefix("http://").split(":")
        threads = [
            threading.Thread(target=load, args=((host, int(port)), stopped)) for _ in range(50)
        ]
        for thread in threads:
            thread.start()
        time.sleep(1)
        start = time.monotonic()
        gateway.send_signal(signal.SIGTERM)
        assert gateway.wait(10) == 0
        took = time.monotonic() - start
        stopped.set()
        for thread in threads:
            thread.join()
    assert lost == []
    assert answered.keys() == {200}
    assert took < 5


def test_a_storm_of_callers_that_leave_does_no_harm(trained: tuple[Toy, str]) -> None:
    with served(*trained, TOY_DELAY="0.02") as service:
        host, port = service.url.removeprefix("http://").split(":")
        head = b"POST /v1/predict HTTP/1.1\r\nHost: t\r\nContent-Length: 10\r\n\r\n"
        for number in range(300):
            with socket.create_connection((host, int(port))) as connection:
                connection.sendall(head + (b'{"x": 0.5}' if number % 2 else b'{"x":'))
        for number in range(100):
            assert post(service.url, {"x": number / 100})[1]["prediction"]["score"] == number / 100


# Starting with something wrong -----------------------------------------------------------


def test_a_port_in_use_is_named_with_its_setting(trained: tuple[Toy, str]) -> None:
    toy, model = trained
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        gateway = toy.run("serve", "gateway", MLSERVICE_GATEWAY__PORT=port)
        worker = toy.run("serve", "worker", "--model", model, MLSERVICE_WORKER__PORT=port)
    for result, variable in ((gateway, "MLSERVICE_GATEWAY__PORT"), (worker, "WORKER__PORT")):
        assert result.returncode == 2
        assert port in result.stderr
        assert variable in result.stderr
        assert "Traceback" not in result.stderr


@pytest.mark.parametrize("damage", ["cut", "altered", "gone"])
def test_a_damaged_model_file_is_never_served(make_toy: MakeToy, damage: str) -> None:
    toy = make_toy()
    model = toy.train()
    (file,) = Path(model.removeprefix("file://")).rglob("model.json")
    content = file.read_bytes()
    if damage == "cut":
        file.write_bytes(content[: len(content) * 9 // 10])
    elif damage == "altered":
        file.write_bytes(content.replace(b"1.0", b"0.9"))
    else:
        file.unlink()
    result = toy.run("serve", "worker", "--model", model)
    assert result.returncode == 3
    assert "model.json" in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize(
    ("slope", "reason"),
    [("0.0", "constant"), ("-1.0", "leave the range"), ("0.2", "baseline"), ("0.99", "differ")],
)
def test_a_worker_refuses_a_model_that_went_mad_after_training(
    make_toy: MakeToy, slope: str, reason: str
) -> None:
    toy = make_toy()
    model = toy.train()
    source = toy.folder / "src" / "toy" / "model.py"
    text = source.read_text("utf-8")
    source.write_text(text.replace("rows[:, 0] * model.slope", f"rows[:, 0] * {slope}"), "utf-8")
    result = toy.run("serve", "worker", "--model", model)
    assert result.returncode == 5
    assert reason in result.stderr


def test_a_model_that_does_not_exist_is_named_with_a_remedy(toy: Toy) -> None:
    latest = toy.run("serve", "worker")
    named = toy.run("serve", "worker", "--model", "s3://elsewhere/model")
    assert latest.returncode == named.returncode == 3
    assert "mlservice pipeline run" in latest.stderr
    assert "s3://elsewhere/model" in named.stderr


def test_a_gateway_and_a_model_of_different_features_do_not_mix(make_toy: MakeToy) -> None:
    toy = make_toy()
    model = toy.train()
    source = toy.folder / "src" / "toy" / "features.py"
    source.write_text(
        source.read_text("utf-8").replace('FEATURES = ("x", "trouble")', 'FEATURES = ("x", "t")')
    )
    with served(toy, model) as service:
        status, answer, _ = post(service.url, {"x": 0.5})
    assert status == 503
    assert "other features" in answer["detail"]
