"""Several gateway processes behind one port: to callers and operators they are one gateway."""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import threading
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from mlservice.local import find_ports
from template_tests.support.live_toy import LiveToy, Process, opened, wait_for
from template_tests.support.toy_service import MakeToy, Toy

COUNT = 2


class Processes:
    """A gateway of ``COUNT`` processes, its worker, and the port of its metrics."""

    def __init__(self, world: LiveToy, **environ: str) -> None:
        self.world = world
        self.folder = world.toy.folder
        world.publish(world.model(1.0))
        self.worker = world.start("worker")
        wait_for(self.worker.serves)
        self.write_live_file()
        (self.metrics_port,) = find_ports(1)
        self.gateway = world.start(
            "gateway",
            MLSERVICE_LIVE__FILE="gateway.json",
            MLSERVICE_GATEWAY__PROCESSES=str(COUNT),
            MLSERVICE_GATEWAY__METRICS_PORT=self.metrics_port,
            **environ,
        )
        wait_for(lambda: self.metric("mlservice_gateway_processes") == COUNT, 60)

    def write_live_file(self, **sections: object) -> None:
        self.world.write("gateway.json", workers=[self.worker.address], **sections)

    @property
    def pids(self) -> list[int]:
        """The processes below the parent."""
        return children(self.gateway.process.pid)

    def metrics(self) -> dict[str, float]:
        """The samples of the parent's port, by name and labels."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.metrics_port}", timeout=10) as got:
                text = got.read().decode()
        except OSError:
            return {}
        found = re.findall(r"(?m)^(\w+(?:\{.*\})?) (\S+)$", text)
        return {name: float(value) for name, value in found}

    def metric(self, name: str) -> float:
        """The sum of a metric's samples."""
        samples = self.metrics().items()
        return sum(value for sample, value in samples if sample.split("{")[0] == name)

    def predicted(self) -> Counter[int]:
        """Prediction events by the process that wrote them."""
        counts: Counter[int] = Counter()
        for path in sorted((self.folder / ".mlservice" / "events").glob("*.jsonl")):
            pid = int(path.stem.split("-")[2])
            lines = path.read_text("utf-8").splitlines()
            counts[pid] += sum('"event":"prediction"' in line for line in lines)
        return counts

    def ask(self) -> int:
        """Ask over a connection of its own; the status."""
        return self.gateway.ask()[0]


def children(pid: int) -> list[int]:
    text = Path(f"/proc/{pid}/task/{pid}/children").read_text("utf-8")
    return [int(child) for child in text.split()]


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text("utf-8").rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.fixture
def world(make_toy: MakeToy) -> Iterator[LiveToy]:
    with opened(make_toy()) as made:
        yield made


def test_all_processes_answer_and_one_port_shows_what_they_counted(world: LiveToy) -> None:
    running = Processes(world)
    pids = running.pids
    assert len(pids) == COUNT
    wait_for(lambda: all(running.ask() == 200 for _ in range(10)))
    before = running.metric("mlservice_stage_seconds_count")
    statuses = Counter(running.ask() for _ in range(200))
    assert statuses == {200: 200}
    samples = running.metrics()
    assert samples['mlservice_requests_total{status="200"}'] >= 210
    assert running.metric("mlservice_stage_seconds_count") == before + 200 * 4
    assert {f'mlservice_workers{{process="{n + 1}"}}' for n in range(COUNT)} <= samples.keys()
    assert samples["mlservice_gateway_process_restarts_total"] == 0
    assert running.gateway.stop() == 0
    counts = running.predicted()
    assert counts.keys() == set(pids)
    assert counts.total() == samples['mlservice_requests_total{status="200"}']
    assert not any(alive(pid) for pid in pids)


def test_a_killed_process_loses_what_it_held_and_is_started_again(world: LiveToy) -> None:
    running = Processes(world)
    wait_for(lambda: all(running.ask() == 200 for _ in range(20)))
    stop = threading.Event()
    statuses: Counter[object] = Counter()
    totals: list[float] = []

    def call() -> None:
        connection = http.client.HTTPConnection(running.gateway.address, timeout=10)
        while not stop.is_set():
            try:
                connection.request("POST", "/v1/predict", '{"x": 0.5}')
                response = connection.getresponse()
                response.read()
                statuses[response.status] += 1
            except (OSError, http.client.HTTPException):
                statuses["lost"] += 1
                connection.close()
        connection.close()

    def scrape() -> None:
        while not stop.is_set():
            totals.append(running.metrics()['mlservice_requests_total{status="200"}'])

    callers = [threading.Thread(target=call) for _ in range(12)]
    threads = [*callers, threading.Thread(target=scrape)]
    for thread in threads:
        thread.start()
    time.sleep(1)
    before = set(running.pids)
    victim = min(before)
    os.kill(victim, signal.SIGKILL)
    wait_for(lambda: running.metric("mlservice_gateway_process_restarts_total") == 1)
    wait_for(lambda: running.metric("mlservice_gateway_processes") == COUNT, 60)
    time.sleep(1)
    stop.set()
    for thread in threads:
        thread.join()
    # Each caller has one request at a time, so the killed process held no more than those.
    assert statuses["lost"] <= len(callers), statuses
    assert statuses.keys() <= {200, "lost"}
    assert totals == sorted(totals)
    after = set(running.pids)
    assert len(after) == COUNT
    assert after & before == before - {victim}
    assert "ended with 137" in running.gateway.log.read_text("utf-8")
    # Only what the killed process counted since its last snapshot is missing.
    total = running.metric("mlservice_requests_total")
    assert total >= 0.7 * statuses[200]
    for _ in range(60):
        assert running.ask() == 200
    assert running.metric("mlservice_requests_total") == total + 60


def test_sighup_reloads_the_live_file_in_all_processes(world: LiveToy) -> None:
    running = Processes(world, MLSERVICE_LIVE__WATCH="false")
    wait_for(lambda: all(running.ask() == 200 for _ in range(20)))
    running.write_live_file(clients={"shop": {"token_sha256": "0" * 64}})
    running.gateway.process.send_signal(signal.SIGHUP)
    wait_for(lambda: running.metric("mlservice_live_reloads_total") == 2 * COUNT)
    assert {running.ask() for _ in range(30)} == {401}
    running.write_live_file()
    running.gateway.process.send_signal(signal.SIGHUP)
    wait_for(lambda: running.metric("mlservice_live_reloads_total") == 3 * COUNT)
    wait_for(lambda: all(running.ask() == 200 for _ in range(20)))


def test_no_process_outlives_its_parent(world: LiveToy) -> None:
    running = Processes(world)
    pids = running.pids
    running.gateway.process.kill()
    running.gateway.process.wait()
    wait_for(lambda: not any(alive(pid) for pid in pids), 10)


def test_a_process_that_cannot_start_ends_the_parent_with_its_message(toy: Toy) -> None:
    package = toy.folder / "src" / "toy"
    (package / "features.py").write_text("names = 3\n", "utf-8")
    (port,) = find_ports(1)
    places = {"MLSERVICE_GATEWAY__PORT": port}
    alone = toy.run("serve", "gateway", **places)
    several = toy.run("serve", "gateway", MLSERVICE_GATEWAY__PROCESSES="3", **places)
    assert several.returncode == alone.returncode == 2
    assert several.stderr == alone.stderr
    assert "Traceback" not in several.stderr


def test_a_process_that_ends_at_each_start_is_started_after_longer_and_longer_pauses(
    world: LiveToy,
) -> None:
    running = Processes(world)
    contract = running.folder / "contracts" / "request.schema.json"
    good = contract.read_text("utf-8")
    contract.write_text("{", "utf-8")
    os.kill(running.pids[0], signal.SIGKILL)
    wait_for(lambda: len(running.gateway.lines("starts again in")) >= 3, 30)
    pauses = [line.split("again in ")[1] for line in running.gateway.lines("starts again in")]
    assert pauses[:3] == ["0.5 s", "1 s", "2 s"]
    assert {running.ask() for _ in range(30)} == {200}
    assert all(running.gateway.ready() for _ in range(10))
    contract.write_text(good, "utf-8")
    wait_for(lambda: running.metric("mlservice_gateway_processes") == COUNT, 30)


def test_one_process_has_no_parent(world: LiveToy) -> None:
    gateway = world.start("gateway", MLSERVICE_LIVE__FILE="gateway.json")
    wait_for(lambda: serves(gateway))
    assert children(gateway.process.pid) == []


def serves(gateway: Process) -> bool:
    try:
        with urllib.request.urlopen(f"http://{gateway.address}/live", timeout=5) as response:
            return bool(json.loads(response.read())["status"] == "alive")
    except OSError:
        return False


def test_a_port_in_use_is_refused_by_the_parent_too(toy: Toy) -> None:
    result = toy.run(
        "serve",
        "gateway",
        MLSERVICE_GATEWAY__PROCESSES="2",
        MLSERVICE_GATEWAY__HOST="192.0.2.1",  # an address of documentation, which nobody has
    )
    assert result.returncode == 2
    assert "gateway: cannot listen on 192.0.2.1:8000" in result.stderr
