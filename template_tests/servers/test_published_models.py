"""Published models, in a real Consul: who may replace whom, and what trouble there can be."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.request import Request, urlopen

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mlservice.cluster import ConsulStore
from mlservice.errors import ClusterAway, ClusterError, ClusterRefused
from mlservice.live import ModelRecord
from mlservice.models import Registry
from template_tests.support.cluster import eventually
from template_tests.support.laws import examples
from template_tests.support.servers import Consul, consul_server, free_ports

pytestmark = pytest.mark.servers
START = datetime(2024, 1, 1, tzinfo=UTC)


@pytest.fixture(scope="module")
def consul(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Consul]:
    with consul_server(tmp_path_factory.mktemp("consul")) as server:
        yield server


@pytest.fixture
def store(consul: Consul) -> ConsulStore:
    return opened(consul)


@pytest.fixture
def registry(store: ConsulStore) -> Registry:
    return fresh(store)


def opened(consul: Consul, token: str = "") -> ConsulStore:
    host, _, port = consul.address.partition(":")
    return ConsulStore(host, int(port), token=token)


NUMBERS = iter(range(1_000_000))


def fresh(store: ConsulStore) -> Registry:
    """The registry of a service that has no model yet."""
    return Registry(store, f"service-{next(NUMBERS)}")


def record(period: int, made: int = 0) -> ModelRecord:
    """A model of an hour, made some seconds after the start of time."""
    return ModelRecord(
        uri=f"file:///models/{period}/{made}",
        sha256="0" * 64,
        version=f"v{period:03d}-{made:03d}",
        metrics={"loss": 0.5},
        created=START + timedelta(seconds=made),
        period=(START + timedelta(hours=period)).strftime("%Y-%m-%dT%H"),
    )


def test_the_first_model_is_published_and_the_same_again_changes_nothing(
    registry: Registry,
) -> None:
    assert registry.current() is None
    assert registry.offer(record(1)) == "published"
    index = registry.consul.get(registry.key).index
    assert registry.offer(record(1)) == "unchanged"
    assert registry.consul.get(registry.key).index == index
    assert registry.current() == record(1)


def test_an_older_pipeline_that_ends_late_changes_nothing(registry: Registry) -> None:
    registry.offer(record(2))
    assert registry.offer(record(1, made=99)) == "late"
    assert registry.current() == record(2)


def test_a_clock_that_jumps_back_hides_no_newer_period(registry: Registry) -> None:
    registry.offer(record(1, made=500))
    assert registry.offer(record(2, made=3)) == "published"


def test_a_run_that_is_repeated_does_not_undo_a_rollback(registry: Registry) -> None:
    registry.offer(record(1))
    registry.offer(record(2))
    assert registry.choose(registry.before()) == "published"
    assert registry.offer(record(2)) == "rolled back"
    assert registry.current() == record(1)
    assert registry.offer(record(3)) == "published"


def test_there_is_nothing_before_the_first(registry: Registry) -> None:
    registry.offer(record(1))
    with pytest.raises(ClusterError, match="there is no older model to go back to"):
        registry.before()


def test_a_publisher_that_died_between_its_writes_is_finished_by_the_next(
    registry: Registry,
) -> None:
    registry.consul.put(registry.key, record(1).encode(), 0)
    assert registry.offer(record(1)) == "unchanged"
    registry.offer(record(2))
    assert [item.record for item in registry.published()] == [record(2), record(1)]


@settings(
    max_examples=examples(60),
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=1, max_size=8))
def test_whatever_the_order_the_newest_serves_in_the_end(
    store: ConsulStore, made: list[tuple[int, int]]
) -> None:
    registry = fresh(store)
    for period, seconds in made:
        registry.offer(record(period, seconds))
    assert registry.current() == record(*max(made))
    ages = [(item.record.period, item.record.created) for item in registry.published()]
    assert ages == sorted(ages, reverse=True)
    assert [item.serves for item in registry.published()].count(True) == 1


def test_many_publishers_at_once_leave_the_newest(consul: Consul, registry: Registry) -> None:
    service = registry.key.split("/")[1]
    threads = [
        threading.Thread(
            target=lambda n=number: Registry(opened(consul), service).offer(record(n)), daemon=True
        )
        for number in range(16)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert registry.current() == record(15)


def test_a_write_of_somebody_else_between_read_and_write_wins(registry: Registry) -> None:
    entry = registry.consul.get(registry.key)
    registry.offer(record(5))
    assert registry.consul.put(registry.key, "mine", entry.index) is False
    assert registry.current() == record(5)


def test_a_key_that_was_deleted_is_written_anew(registry: Registry) -> None:
    registry.offer(record(1))
    registry.consul.delete(registry.key)
    assert registry.current() is None
    assert registry.offer(record(2)) == "published"


def test_a_key_that_holds_something_else_is_named(registry: Registry) -> None:
    registry.consul.put(registry.key, '{"uri": 3}', 0)
    with pytest.raises(Exception, match=f"Consul key {registry.key}"):
        registry.current()


def test_a_consul_that_is_away_is_named() -> None:
    (port,) = free_ports(1)
    with pytest.raises(ClusterAway, match=f"Consul at 127.0.0.1:{port} does not answer"):
        Registry(ConsulStore("127.0.0.1", port), "x").current()


def readable(store: ConsulStore) -> bool:
    with contextlib.suppress(ClusterRefused):
        store.get("anything")
        return True
    return False


def test_a_key_that_may_not_be_read_or_written_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CONSUL_HTTP_TOKEN", "the settings' token goes before it")
    acl = {"enabled": True, "default_policy": "deny", "tokens": {"master": "root-token"}}
    with consul_server(tmp_path / "consul", acl=acl) as server:
        root = opened(server, "root-token")
        eventually(lambda: readable(root))  # the first token is made after the first election
        Registry(root, "closed").offer(record(1))
        for token in ("", "11111111-2222-3333-4444-555555555555"):
            with pytest.raises(ClusterRefused, match="give CONSUL_HTTP_TOKEN a token"):
                Registry(opened(server, token), "closed").offer(record(2))
        assert Registry(root, "closed").current() == record(1)


KEYS = ["/leading", "trailing/", "a//b", "a b", "ümlaut", "a/../b", ""]


@pytest.mark.parametrize("key", KEYS)
def test_a_name_that_some_consul_refuses_is_refused_by_us(store: ConsulStore, key: str) -> None:
    with pytest.raises(ClusterError, match="use letters, digits"):
        store.get(key)


def test_an_empty_value_is_a_value(consul: Consul, store: ConsulStore) -> None:
    request = Request(f"http://{consul.address}/v1/kv/empty", b"", method="PUT")
    with urlopen(request, timeout=5):
        pass
    assert store.get("empty").value == ""
    assert store.get("missing").value is None
