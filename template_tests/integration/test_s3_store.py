"""The same pipeline and worker on an S3 server."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from mlservice.artifacts import list_artifacts, open_store
from mlservice.errors import ArtifactExists
from mlservice.local import LocalService, free_ports
from template_tests.support.calls import post
from template_tests.support.s3 import KEYS, client, start_s3
from template_tests.support.toy_service import PERIOD, MakeToy, Toy


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    server = start_s3()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def bucket(endpoint: str) -> str:
    name = f"bucket-{uuid.uuid4().hex[:8]}"
    client(endpoint).create_bucket(Bucket=name)
    return name


@pytest.fixture
def toy_on_s3(make_toy: MakeToy, endpoint: str, bucket: str) -> Toy:
    toy = make_toy()
    places = {
        "MLSERVICE_ARTIFACTS__ROOT": f"s3://{bucket}/models",
        "MLSERVICE_ARTIFACTS__S3_ENDPOINT": endpoint,
    }
    return Toy(toy.folder, {**toy.environ, **KEYS, **places})


def keys(endpoint: str, bucket: str) -> list[str]:
    listed = client(endpoint).list_objects_v2(Bucket=bucket)
    return [item["Key"] for item in listed.get("Contents", [])]


def test_a_model_is_made_once_found_again_and_served(toy_on_s3: Toy) -> None:
    model = toy_on_s3.train()
    assert model.startswith("s3://")
    assert "nothing to do" in toy_on_s3.run("pipeline", "run", "--period", PERIOD).stdout
    assert "Rows" in toy_on_s3.run("artifacts", "show", model).stdout
    places = free_ports(toy_on_s3.environ)
    with LocalService(toy_on_s3.folder, places, model, toy_on_s3.folder / "logs") as service:
        assert post(service.url, {"x": 0.5})[1]["prediction"] == {"score": 0.5}


def test_two_runs_at_once_give_one_artifact(toy_on_s3: Toy, endpoint: str, bucket: str) -> None:
    runs = [toy_on_s3.start("pipeline", "run", "--period", PERIOD, TOY_WAIT="1") for _ in range(2)]
    outputs = [run.communicate(timeout=120)[0] for run in runs]
    assert [run.returncode for run in runs] == [0, 0], outputs
    found = keys(endpoint, bucket)
    assert len([key for key in found if key.endswith("manifest.json")]) == 3
    assert len(found) == 3 + 2 + 2, "two rows' files, a model and its golden rows"


def test_a_second_writer_is_refused_by_the_store(
    endpoint: str, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in KEYS.items():
        monkeypatch.setenv(name, value)
    store = open_store(f"s3://{bucket}/x", s3_endpoint=endpoint)
    store.create("a/manifest.json", b"first")
    with pytest.raises(ArtifactExists, match="never replaced"):
        store.create("a/manifest.json", b"second")
    assert store.read("a/manifest.json") == b"first"


def test_an_altered_model_is_never_served(toy_on_s3: Toy, endpoint: str, bucket: str) -> None:
    model = toy_on_s3.train()
    (key,) = (key for key in keys(endpoint, bucket) if key.endswith("model.json"))
    client(endpoint).put_object(Bucket=bucket, Key=key, Body=b'{"slope": 0.5, "padding": ""}')
    result = toy_on_s3.run("serve", "worker", "--model", model)
    assert result.returncode == 3
    assert "cut or altered" in result.stderr


@pytest.mark.parametrize("fault", ["away", "no bucket"])
def test_a_store_that_cannot_be_used_is_named_with_a_remedy(toy_on_s3: Toy, fault: str) -> None:
    change = (
        {"MLSERVICE_ARTIFACTS__S3_ENDPOINT": "http://127.0.0.1:9"}
        if fault == "away"
        else {"MLSERVICE_ARTIFACTS__ROOT": "s3://no-such-bucket/x"}
    )
    result = toy_on_s3.run("pipeline", "run", "--period", PERIOD, **change)
    assert result.returncode in (3, 4), result.stderr
    assert "[artifacts]" in result.stderr
    assert "Traceback" not in result.stderr


def test_a_listing_finds_only_what_lies_below_the_prefix(
    endpoint: str, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in KEYS.items():
        monkeypatch.setenv(name, value)
    store = open_store(f"s3://{bucket}/x", s3_endpoint=endpoint)
    store.create("toy/a", b"1")
    store.create("toys/b", b"2")
    assert list(store.keys("toy")) == ["toy/a"]
    assert list_artifacts(store, "nothing") == []


def test_of_many_writers_at_once_one_creates(
    endpoint: str, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in KEYS.items():
        monkeypatch.setenv(name, value)
    store = open_store(f"s3://{bucket}/x", s3_endpoint=endpoint)

    def creates(number: int) -> bool:
        try:
            store.create("a/manifest.json", str(number).encode())
        except ArtifactExists:
            return False
        return True

    with ThreadPoolExecutor(16) as writers:
        created = list(writers.map(creates, range(16)))
    assert created.count(True) == 1
    assert store.read("a/manifest.json") == str(created.index(True)).encode()
