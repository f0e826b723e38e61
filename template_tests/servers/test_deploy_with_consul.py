"""``mlservice deploy`` with a real Consul: keys, the doctor, and models that are published."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from mlservice.cluster import ConsulStore
from nomad_double import NomadDouble
from template_tests.support.cluster import on_cluster
from template_tests.support.servers import Consul, consul_server
from template_tests.support.toy_service import MakeToy

pytestmark = pytest.mark.servers
REGISTER = ("deploy", "register")


@pytest.fixture
def double(tmp_path: Path) -> Iterator[NomadDouble]:
    with NomadDouble(tmp_path / "nomad") as double:
        yield double


@pytest.fixture(scope="module")
def consul(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Consul]:
    with consul_server(tmp_path_factory.mktemp("consul")) as server:
        yield server


@pytest.fixture
def key(consul: Consul) -> Iterator[ConsulStore]:
    host, _, port = consul.address.partition(":")
    store = ConsulStore(host, int(port))
    yield store
    store.delete("mlservice/toy/model")


def test_keys_are_created_and_never_overwritten_unless_asked(
    make_toy: MakeToy, double: NomadDouble, consul: Consul, key: ConsulStore
) -> None:
    toy = on_cluster(make_toy(), double.address, consul.address)
    for expected in ("created", "unchanged"):
        result = toy.run(*REGISTER)
        assert result.returncode == 0, result.stdout + result.stderr
        assert re.search(rf"^key +mlservice/toy/model +{expected}", result.stdout, re.MULTILINE)
    assert key.put("mlservice/toy/model", '{"mine": 1}', key.get("mlservice/toy/model").index)
    assert "kept" in toy.run(*REGISTER).stdout
    assert key.get("mlservice/toy/model").value == '{"mine": 1}'
    assert "changed" in toy.run(*REGISTER, "--overwrite-keys", "--dry-run").stdout
    assert key.get("mlservice/toy/model").value == '{"mine": 1}'
    toy.run(*REGISTER, "--overwrite-keys")
    assert key.get("mlservice/toy/model").value == "null"


def test_the_doctor_finds_nothing_wrong_and_names_each_thing_that_is(
    make_toy: MakeToy, double: NomadDouble, consul: Consul, key: ConsulStore, tmp_path: Path
) -> None:
    toy = on_cluster(make_toy(), double.address, consul.address)
    assert toy.run(*REGISTER).returncode == 0
    healthy = toy.run("deploy", "doctor")
    assert healthy.returncode == 0, healthy.stdout
    assert "WRONG" not in healthy.stdout
    with NomadDouble(
        tmp_path / "poor", version="1.5.17", oversubscription=False, drivers=("exec",)
    ) as poor:
        key.delete("mlservice/toy/model")
        sick = on_cluster(make_toy(), poor.address, consul.address).run("deploy", "doctor")
    assert sick.returncode == 7
    found = [line for line in sick.stdout.splitlines() if line.startswith("WRONG")]
    assert [line.split(": ", 1)[1].split("  ")[0] for line in found] == [
        "version", "oversubscription", "driver", "keys",
    ]  # fmt: skip
    assert "upgrade to 1.6.2 or newer" in sick.stdout
    assert "-memory-oversubscription=true" in sick.stdout
    assert "run `mlservice deploy register`" in sick.stdout


def test_models_are_listed_published_and_rolled_back(
    make_toy: MakeToy, double: NomadDouble, consul: Consul, key: ConsulStore
) -> None:
    here = {"MLSERVICE_PIPELINE__EXECUTOR": "local"}
    toy = on_cluster(make_toy(), double.address, consul.address, **here)
    versions = []
    for hour in (2, 3):
        run = toy.run("pipeline", "run", "--period", f"2024-01-02T0{hour}", "--publish")
        assert "is published and serves from now on" in run.stdout, run.stderr
        versions.append(run.stdout.splitlines()[-1].split()[0])
    late = toy.run("pipeline", "run", "--period", "2024-01-02T01", "--publish")
    assert "is not published: a newer model serves or did" in late.stdout
    listed = toy.run("models", "list").stdout
    assert re.search(rf"serves +{versions[1]}", listed)
    assert json.loads(key.get("mlservice/toy/model").value or "")["version"] == versions[1]
    assert versions[0] in toy.run("models", "rollback").stdout
    assert re.search(rf"serves +{versions[0]}", toy.run("models", "list").stdout)
    assert "period    2024-01-02T02:00:00" in toy.run("models", "show", versions[0]).stdout
    again = toy.run("pipeline", "run", "--period", "2024-01-02T03", "--publish")
    assert "it was rolled back" in again.stdout
    uri = re.search(r"^artifact +(file\S+)", again.stdout, re.MULTILINE)
    assert uri
    assert "serves from now on" in toy.run("models", "publish", uri[1]).stdout
