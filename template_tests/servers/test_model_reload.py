"""The three ways to a new model, on a real Consul, under load: no request fails in any of them."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from pathlib import Path

import pytest

from mlservice.cluster import ConsulStore
from mlservice.models import Registry
from template_tests.support.cluster import eventually
from template_tests.support.load import Load
from template_tests.support.rollout import BODIES, Rollout, rollout
from template_tests.support.toy_service import MakeToy

pytestmark = [pytest.mark.servers, pytest.mark.timeout(900)]


def publish_altered(world: Rollout) -> str:
    """Let a model serve whose file was altered behind its manifest: what no check can let in."""
    host, _, port = world.consul.address.partition(":")
    registry = Registry(ConsulStore(host, int(port)), "toy")
    record = registry.current()
    assert record is not None
    bad = record.model_copy(
        update={"sha256": "f" * 64, "version": "altered", "created": datetime.now(UTC)}
    )
    registry.choose(bad)
    if world.toy.environ["MLSERVICE_MODELS__RELOAD"] == "rolling":
        from mlservice.cluster import Nomad
        from mlservice.models.publish import roll

        roll(Nomad(world.double.address), "toy-worker", registry)
    return bad.version


def refused_everywhere(world: Rollout, way: str) -> bool:
    """Whether each instance that is to take the altered model has said that it does not."""
    logs = world.logs("worker")
    asked = [log for log in logs if "altered" in log] if way == "rolling" else logs
    return bool(asked) and all("altered is refused" in log for log in asked)


@pytest.mark.parametrize("way", ["watch", "signal", "rolling"])
def test_a_new_model_costs_no_request_and_a_bad_one_is_refused(
    make_toy: MakeToy, tmp_path: Path, way: str
) -> None:
    with rollout(make_toy(), tmp_path, way) as world, Load(world.url, BODIES) as load:
        first = load.newest
        second = world.swap(2, load).version
        assert second != first
        publish_altered(world)
        eventually(lambda: refused_everywhere(world, way), 120)
        time.sleep(3)
        assert load.newest == second, "the old one serves on"
        third = world.swap(3, load).version
        assert list(load.versions) == [first, second, third]
    assert not load.failures
    assert len(load.answers) > 1000


def test_a_pipeline_on_the_cluster_rolls_its_model_out(make_toy: MakeToy, tmp_path: Path) -> None:
    with rollout(make_toy(), tmp_path, "rolling") as world, Load(world.url, BODIES) as load:
        first = load.newest
        meta = ("--meta", "period=2024-01-02T05")
        assert world.toy.run("deploy", "dispatch", "pipeline", *meta).returncode == 0
        eventually(lambda: load.newest != first, 120)
        assert world.settle() == "successful"
    assert not load.failures


def test_services_go_on_while_consul_is_away_and_follow_it_when_it_is_back(
    make_toy: MakeToy, tmp_path: Path
) -> None:
    with rollout(make_toy(), tmp_path, "watch") as world, Load(world.url, BODIES) as load:
        first = load.newest
        with world.consul.away():
            time.sleep(30)
            assert list(load.versions) == [first]
        second = world.swap(2, load).version
        world.consul.stop()  # for good
        time.sleep(10)
        assert list(load.versions) == [first, second]
    assert not load.failures
