"""Models that come and go while requests are answered."""

from __future__ import annotations

import asyncio
import json
import random
import signal
import socket
import time
import urllib.request
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from moto.server import ThreadedMotoServer
from prometheus_client import REGISTRY

from mlservice.errors import StoreError
from mlservice.live import Live, ModelRecord
from mlservice.worker.predictor import Predictor
from mlservice.worker.slot import ModelSlot
from mlservice.worker.swapper import Swapper
from template_tests.support.live_toy import Crowd, LiveToy, Process, opened, wait_for
from template_tests.support.s3 import KEYS, client
from template_tests.support.toy_service import MakeToy


@pytest.fixture
def world(make_toy: MakeToy) -> Iterator[LiveToy]:
    with opened(make_toy()) as made:
        yield made


def serving(world: LiveToy, **more: str) -> tuple[Process, Process]:
    """A worker and a gateway that is ready."""
    worker = world.start("worker", **more)
    gateway = world.start(
        "gateway", MLSERVICE_GATEWAY__WORKER=worker.address, MLSERVICE_LIVE__FILE=""
    )
    wait_for(gateway.ready)
    return worker, gateway


def wait_for_version(gateway: Process, model: ModelRecord) -> None:
    """Wait until the model answers."""
    wait_for(lambda: gateway.version() == model.version)


def wait_for_lines(process: Process, words: str, count: int) -> list[str]:
    """Wait until the log has ``count`` messages with ``words``; these."""
    wait_for(lambda: len(process.lines(words)) >= count)
    return process.lines(words)


# Swaps -----------------------------------------------------------------------------------


@pytest.mark.parametrize("way", ["watch", "signal"])
def test_a_new_model_is_swapped_in_at_full_load_without_a_lost_request(
    world: LiveToy, way: str
) -> None:
    models = [world.model(slope) for slope in (1.0, 0.9, 0.8)]
    world.publish(models[0])
    worker, gateway = serving(world, MLSERVICE_LIVE__WATCH="true" if way == "watch" else "false")
    with Crowd(gateway) as crowd:
        for model in models[1:]:
            world.publish(model)
            if way == "signal":
                worker.process.send_signal(signal.SIGHUP)
            wait_for_version(gateway, model)
            crowd.see(200)
    assert crowd.faults == []
    assert crowd.statuses.keys() == {200}
    assert {tuple(order) for order in crowd.order} == {tuple(m.version for m in models)}


def test_without_watch_nothing_is_swapped_before_the_signal(world: LiveToy) -> None:
    first, second = world.model(1.0), world.model(0.9)
    world.publish(first)
    worker, gateway = serving(world, MLSERVICE_LIVE__WATCH="false")
    world.publish(second)
    time.sleep(0.5)  # five looks of a worker that watches
    assert gateway.version() == first.version
    worker.process.send_signal(signal.SIGHUP)
    wait_for_version(gateway, second)


def test_a_worker_without_a_model_is_alive_and_serves_as_soon_as_one_comes(world: LiveToy) -> None:
    worker = world.start("worker")
    wait_for(lambda: worker.health("live") == "SERVING")
    wait_for(lambda: worker.says("no such file or directory"))
    assert worker.health() == "NOT_SERVING"
    world.publish(None)
    wait_for(lambda: worker.says("names no model: this worker waits for a model"))
    assert worker.health() == "NOT_SERVING"
    world.publish(world.model(1.0))
    wait_for(worker.serves)


def test_a_bad_model_is_refused_and_the_old_one_serves_on(world: LiveToy) -> None:
    good, better = world.model(1.0), world.model(0.9)
    constant = world.model(0.0, golden=1.0)
    drifted = world.model(0.7, golden=0.9)
    strange = world.model(1.0, features=("x", "y"))
    wrong = world.model(1.0).model_copy(update={"sha256": "0" * 64})
    foreign = world.model(1.0).model_copy(update={"uri": "s3://elsewhere/model"})
    gone = good.model_copy(update={"uri": f"{world.root}/toy/Fit/none"})
    corrupt = world.model(1.0)
    (file,) = Path(corrupt.uri.removeprefix("file://")).rglob("model.json")
    file.write_bytes(file.read_bytes().replace(b"1.0", b"0.9"))
    world.publish(good)
    worker, gateway = serving(world)
    bad = {
        "constant": constant,
        "differ by up to": drifted,
        "other features": strange,
        "was published with 000000000000": wrong,
        "is not in the artifact store": foreign,
        "there is no such object": gone,
        "model.json: has": corrupt,
    }
    with Crowd(gateway, 4) as crowd:
        for count, (words, model) in enumerate(bad.items(), 1):
            world.publish(model)
            assert words in wait_for_lines(worker, "is refused", count)[-1]
        world.publish(None)
        wait_for(lambda: worker.says(f"names no model: model {good.version} stays in use"))
        assert crowd.versions.keys() == {good.version}
        world.publish(better)
        wait_for_version(gateway, better)
    assert crowd.faults == []
    refusals = worker.lines("is refused")
    assert len(refusals) == len(bad), "a refused model was tried again"
    assert all(f"model {good.version} stays in use" in line for line in refusals)


@pytest.mark.parametrize("damage", [b"", b"{", b"\xff\xfe", b"[1]", b'{"format": 2}', None])
def test_a_damaged_live_file_changes_nothing(world: LiveToy, damage: bytes | None) -> None:
    first, second = world.model(1.0), world.model(0.9)
    path = world.publish(first)
    worker, gateway = serving(world)
    if damage is None:
        path.unlink()
    else:
        world.put(damage)
    wait_for(lambda: worker.says("the last good one stays"))
    time.sleep(0.3)
    assert len(worker.lines("the last good one stays")) == 1
    assert gateway.version() == first.version
    world.publish(second)
    wait_for_version(gateway, second)


def test_metrics_tell_of_swaps_refusals_and_the_version(world: LiveToy) -> None:
    first, second = world.model(1.0), world.model(0.9)
    world.publish(first)
    port = world.environ()["MLSERVICE_WORKER__PORT"]
    worker = world.start("worker", MLSERVICE_WORKER__METRICS_PORT=port)
    wait_for(worker.serves)
    world.publish(world.model(0.0))
    wait_for(lambda: worker.says("is refused"))
    world.publish(second)
    wait_for(lambda: worker.says(f"{second.version} is served"))
    world.put(b"{")
    wait_for(lambda: worker.says("last good one stays"))
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as response:
        text = response.read().decode()
    for line in (
        "mlservice_model_swaps_total 2.0",
        "mlservice_model_swap_refusals_total 1.0",
        f'mlservice_model_info{{version="{second.version}"}} 1.0',
        "mlservice_live_reloads_total 3.0",
        "mlservice_live_refusals_total 1.0",
    ):
        assert line in text
    assert f'version="{first.version}"' not in text


def test_two_hundred_and_forty_swaps_leave_memory_flat_and_no_folder(
    world: LiveToy, tmp_path: Path
) -> None:
    """A month of models, one every three hours."""
    models = [world.model(slope, padding=3_000_000) for slope in (1.0, 0.95, 0.9)]
    world.publish(models[0])
    worker = world.start("worker", MLSERVICE_LIVE__POLL_MS="10", TMPDIR=str(tmp_path))
    wait_for(worker.serves)
    after_ten = 0
    for number in range(1, 241):
        world.publish(models[number % 3])
        wait_for_lines(worker, "was requested", number + 1)
        if number == 10:
            after_ten = worker.memory()
    assert worker.memory() <= after_ten * 1.05
    assert list(tmp_path.iterdir()) == []


def test_a_store_that_is_away_is_waited_for_while_the_old_model_serves(
    make_toy: MakeToy, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name, value in KEYS.items():
        monkeypatch.setenv(name, value)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    endpoint = f"http://{host}:{port}"
    client(endpoint).create_bucket(Bucket="models")
    with opened(make_toy(), "s3://models/toy", endpoint) as world:
        first, second = world.model(1.0), world.model(0.9)
        world.publish(first)
        worker, gateway = serving(world, TMPDIR=str(tmp_path))
        server.stop()
        world.publish(second)
        wait_for(lambda: worker.says(f"{second.version} cannot be fetched"))
        assert worker.lines("cannot be fetched")[0].endswith(f"{first.version} stays in use")
        assert gateway.version() == first.version
        server = ThreadedMotoServer(ip_address=host, port=port, verbose=False)
        server.start()
        wait_for_version(gateway, second)
    server.stop()
    assert list(tmp_path.iterdir()) == []


# Signals and starting --------------------------------------------------------------------


@pytest.mark.parametrize("side", ["worker", "gateway"])
def test_a_storm_of_hangups_kills_no_process_that_starts_or_stops(
    world: LiveToy, side: str
) -> None:
    world.publish(world.model(1.0))
    started = world.start(side)
    wait_for(started.takes_hangups)
    end = time.monotonic() + 30
    up = started.serves if side == "worker" else (lambda: started.says("the worker at"))
    while time.monotonic() < end and not up():
        started.process.send_signal(signal.SIGHUP)
        time.sleep(0.001)
    for _ in range(200):
        started.process.send_signal(signal.SIGHUP)
    assert started.process.poll() is None
    assert up()
    started.process.terminate()
    while started.process.poll() is None:
        started.process.send_signal(signal.SIGHUP)
    assert started.process.returncode == 0


def test_a_hangup_without_a_live_file_does_no_harm(world: LiveToy) -> None:
    gateway = world.start("gateway", MLSERVICE_LIVE__FILE="")
    wait_for(lambda: gateway.says("does not answer"))
    gateway.process.send_signal(signal.SIGHUP)
    assert gateway.ask()[0] == 503


@pytest.fixture
def hangups_heeded() -> Iterator[None]:
    """Let processes heed SIGHUP also where the tests run under nohup."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


@pytest.mark.usefixtures("hangups_heeded")
def test_a_local_service_follows_the_live_file_and_ends_with_its_terminal(world: LiveToy) -> None:
    first, second = world.model(1.0), world.model(0.9)
    world.publish(first)
    environ = world.environ()
    port = environ["MLSERVICE_GATEWAY__PORT"]
    local = world.toy.start("serve", "local", **environ)
    gateway = Process(local, f"127.0.0.1:{port}", world.toy.folder / "no log")
    try:
        wait_for(gateway.ready)
        assert gateway.version() == first.version
        world.publish(second)
        wait_for_version(gateway, second)
    finally:
        local.send_signal(signal.SIGHUP)
        local.communicate(timeout=20)
    assert not gateway.ready()
    with pytest.raises(OSError, match="refused"):
        gateway.ask()


def test_a_metrics_port_in_use_is_named_with_its_setting(world: LiveToy) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        for side in ("worker", "gateway"):
            variable = f"MLSERVICE_{side.upper()}__METRICS_PORT"
            result = world.toy.run("serve", side, **{**world.environ(), variable: port})
            assert result.returncode == 2
            assert port in result.stderr
            assert variable in result.stderr


def test_a_model_and_a_live_file_at_once_are_refused(world: LiveToy) -> None:
    for side in ("worker", "local"):
        result = world.toy.run("serve", side, "--model", "latest", MLSERVICE_LIVE__FILE="l.json")
        assert result.returncode == 2
        assert "MLSERVICE_LIVE__FILE" in result.stderr


# The swapper by itself --------------------------------------------------------------------


def slot_of(record: ModelRecord) -> ModelSlot:
    return ModelSlot(record.version, 1, "", lambda rows: rows[:, 0])


def record(version: str) -> ModelRecord:
    return ModelRecord.decode(
        json.dumps(
            {
                "uri": f"file:///{version}",
                "sha256": "0" * 64,
                "version": version,
                "metrics": {},
                "created": "2024-01-01T00:00:00Z",
                "period": "2024-01-01",
            }
        ),
        "here",
    )


def swap(fetch: Any, steps: Any, stagger: float = 0) -> list[str | None]:
    """What a swapper that loads by ``fetch`` serves after each of the async ``steps``."""

    async def run() -> list[str | None]:
        predictor = Predictor(None)
        swapper = Swapper(predictor, fetch, stagger)
        task = asyncio.create_task(swapper.run())
        seen = []
        async for wanted in steps(swapper):
            async with asyncio.timeout(10):
                while (predictor.slot and predictor.slot.version) != wanted:
                    await asyncio.sleep(0.01)
            seen.append(wanted)
        task.cancel()
        return seen

    return asyncio.run(run())


def test_of_models_that_come_while_one_loads_only_the_newest_is_served() -> None:
    loaded: list[str] = []

    def fetch(wanted: ModelRecord) -> ModelSlot:
        loaded.append(wanted.version)
        time.sleep(0.2)
        return slot_of(wanted)

    async def steps(swapper: Swapper) -> Any:
        swapper.follow(Live(format=1, model=record("a")))
        await asyncio.sleep(0.05)
        for name in "bcd":
            swapper.follow(Live(format=1, model=record(name)))
        yield "d"

    before = REGISTRY.get_sample_value("mlservice_model_swaps_total") or 0
    assert swap(fetch, steps) == ["d"]
    assert loaded == ["a", "d"]
    assert REGISTRY.get_sample_value("mlservice_model_swaps_total") == before + 1


def test_a_store_that_is_away_is_tried_again_and_gives_way_to_news(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("mlservice.worker.swapper._FIRST_PAUSE_SECONDS", 0.05)
    tries: list[tuple[str, float]] = []

    def fetch(wanted: ModelRecord) -> ModelSlot:
        tries.append((wanted.version, time.monotonic()))
        if wanted.version == "never" or len(tries) < 4:
            raise StoreError("the store is away")
        return slot_of(wanted)

    async def steps(swapper: Swapper) -> Any:
        swapper.follow(Live(format=1, model=record("a")))
        yield "a"
        swapper.follow(Live(format=1, model=record("never")))
        await asyncio.sleep(0.3)
        swapper.follow(Live(format=1, model=record("b")))
        yield "b"

    assert swap(fetch, steps) == ["a", "b"]
    times = [at for name, at in tries if name == "a"]
    pauses = [later - earlier for earlier, later in pairwise(times)]
    assert len(pauses) == 3
    assert pauses[0] < pauses[1] < pauses[2], "the pauses grow"


def test_instances_are_staggered_but_not_before_their_first_model() -> None:
    random.seed(0)  # the first number is 0.84 of the longest wait
    times: dict[str | None, float] = {}

    async def steps(swapper: Swapper) -> Any:
        for name in "ab":
            start = time.monotonic()
            swapper.follow(Live(format=1, model=record(name)))
            yield name
            times[name] = time.monotonic() - start

    assert swap(slot_of, steps, stagger=2.0) == ["a", "b"]
    assert times["a"] < 1.0 < times["b"] < 3.0


@pytest.mark.parametrize("error", [SystemExit(3), MemoryError(), StopIteration(), ValueError("no")])
def test_whatever_loading_raises_is_a_refusal(error: BaseException) -> None:
    def fetch(wanted: ModelRecord) -> ModelSlot:
        if wanted.version == "bad":
            raise error
        return slot_of(wanted)

    async def steps(swapper: Swapper) -> Any:
        for name, served in (("a", "a"), ("bad", "a"), ("b", "b")):
            swapper.follow(Live(format=1, model=record(name)))
            await asyncio.sleep(0.05)
            yield served

    assert swap(fetch, steps) == ["a", "a", "b"]
