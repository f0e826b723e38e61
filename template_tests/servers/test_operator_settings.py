"""`mlservice toggles` and `mlservice routing` on a real Consul: nothing is lost, all is told."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from mlservice.cluster import ConsulStore
from mlservice.deploy.operator_settings import OperatorSetting, decode_flag, read_flags, set_flag
from mlservice.errors import ClusterRefused
from template_tests.support.servers import Consul, consul_server
from template_tests.support.toy_service import MakeToy, Toy

pytestmark = pytest.mark.servers


@pytest.fixture(scope="module")
def consul(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Consul]:
    with consul_server(tmp_path_factory.mktemp("consul")) as server:
        yield server


@pytest.fixture
def toy(make_toy: MakeToy, consul: Consul, request: pytest.FixtureRequest) -> Toy:
    made = make_toy()
    made.environ["CONSUL_HTTP_ADDR"] = consul.address
    made.environ["MLSERVICE_SERVICE__NAME"] = f"toy-{abs(hash(request.node.name))}"
    return made


def store(consul: Consul, token: str = "") -> ConsulStore:
    host, _, port = consul.address.partition(":")
    return ConsulStore(host, int(port), token=token)


def store_of(toy: Toy) -> ConsulStore:
    host, _, port = toy.environ["CONSUL_HTTP_ADDR"].partition(":")
    return ConsulStore(host, int(port))


def run(toy: Toy, *words: str, code: int = 0) -> str:
    done = toy.run(*words)
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout + done.stderr


def shown(toy: Toy, name: str) -> Any:
    return json.loads(run(toy, "toggles", "show", name))


def test_a_toggle_is_set_killed_and_set_again_and_its_history_is_kept(toy: Toy) -> None:
    why = ("--by", "ann", "--why")
    assert "is set" in run(toy, "toggles", "set", "new", "--percent", "0.1", *why, "try it")
    assert shown(toy, "new") == {
        "state": "ENABLED",
        "variants": {"on": True, "off": False},
        "defaultVariant": "off",
        "targeting": {"fractional": [["on", 100], ["off", 99900]]},
    }
    assert "is unchanged" in run(toy, "toggles", "set", "new", "--percent", "0.1", *why, "again")
    run(toy, "toggles", "set", "ab", "--split", "control=50,treatment=50", *why, "a test")
    run(toy, "toggles", "off", "new", "--by", "bob", "--why", "it burns")
    listed = run(toy, "toggles", "list")
    assert [word in listed for word in ("on 0.1 %, off 99.9 %", "OFF", "bob", "it burns")] == [
        True
    ] * 4
    assert "control 50 %, treatment 50 %" in listed
    run(toy, "toggles", "on", "new", *why, "mended")
    assert shown(toy, "new")["state"] == "ENABLED"
    history = run(toy, "toggles", "history", "new").splitlines()[1:]
    assert [word in line for word, line in zip(
        ("mended", "it burns", "try it"), history, strict=True
    )] == [True] * 3  # fmt: skip


def test_an_allow_list_goes_before_the_share(toy: Toy) -> None:
    run(
        toy, "toggles", "set", "new", "--percent", "5", "--allow", "ann", "--allow", "bob",
        "--why", "testers",
    )  # fmt: skip
    rule = shown(toy, "new")["targeting"]["if"]
    assert rule[0] == {"in": [{"var": "targetingKey"}, ["ann", "bob"]]}
    assert rule[2] == {"fractional": [["on", 5000], ["off", 95000]]}


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["toggles", "off", "unknown", "--why", "x"], 2, "there is no toggle 'unknown'"),
        (["toggles", "set", "new", "--percent", "101", "--why", "x"], 2, "0 to 100"),
        (["toggles", "set", "new", "--percent", "0.0001", "--why", "x"], 2, "steps of 0.001"),
        (["toggles", "set", "new", "--percent", "5"], 2, "--why"),
        (["toggles", "set", "a b", "--percent", "5", "--why", "x"], 2, "a b"),
        (["toggles", "set", "new", "--split", "a=x,b=1", "--why", "x"], 2, "--split a=x"),
        (["toggles", "set", "new", "--file", "absent.json", "--why", "x"], 2, "absent.json"),
        (["routing", "set", "--canary", "2", "--why", "x"], 2, "share = 2.0"),
        (["routing", "set", "--weights", "a=0,b=0", "--why", "x"], 2, "every weight is 0"),
        (["routing", "set", "--weights", "a", "--why", "x"], 2, "NAME=VALUE"),
    ],
)
def test_what_cannot_be_set_is_refused_and_nothing_is_written(
    toy: Toy, words: list[str], code: int, said: str
) -> None:
    assert said in run(toy, *words, code=code)
    assert run(toy, "toggles", "list").count("\n") == 1
    assert "none" in run(toy, "routing", "show")


def test_a_flag_of_flagds_format_is_checked_before_it_is_written(toy: Toy) -> None:
    flag = {
        "state": "ENABLED",
        "variants": {"small": 1, "large": 5},
        "defaultVariant": "small",
        "targeting": {"if": [{"==": [{"var": "carrier"}, "AA"]}, "large", "small"]},
    }
    path = toy.folder / "flag.json"
    path.write_text(json.dumps(flag), "utf-8")
    run(toy, "toggles", "set", "size", "--file", "flag.json", "--why", "x")
    assert shown(toy, "size") == flag
    path.write_text(json.dumps({**flag, "defaultVariant": "medium"}), "utf-8")
    assert "defaultVariant = 'medium'" in run(
        toy, "toggles", "set", "size", "--file", "flag.json", "--why", "x", code=2
    )
    assert shown(toy, "size") == flag


def test_routing_is_set_shown_and_cleared(toy: Toy) -> None:
    run(toy, "routing", "set", "--weights", "stable=90,canary=10", "--salt", "s", "--why", "try")
    policy = json.loads(run(toy, "routing", "show"))
    assert policy == {
        "policy": "weights",
        "weights": {"stable": 90, "canary": 10},
        "salt": "s",
    }
    run(toy, "routing", "clear", "--by", "bob", "--why", "enough")
    assert "none" in run(toy, "routing", "show")
    assert [name in run(toy, "routing", "history") for name in ("bob", "enough", "try")] == [
        True
    ] * 3


def test_a_client_is_let_in_by_a_token_that_is_kept_nowhere_and_shut_out(toy: Toy) -> None:
    said = run(toy, "clients", "add", "shop", "--per-second", "50", "--why", "a new caller")
    token = said.split("Bearer ")[1].strip()
    clients = OperatorSetting(store_of(toy), toy.environ["MLSERVICE_SERVICE__NAME"], "clients")
    assert json.loads(clients.read()) == {
        "shop": {"token_sha256": sha256(token.encode()).hexdigest(), "per_second": 50}
    }
    assert "50" in run(toy, "clients", "list")
    run(toy, "clients", "remove", "shop", "--why", "gone")
    assert "is unchanged" in run(toy, "clients", "remove", "shop", "--why", "again")
    assert clients.read() == "{}"  # nobody is let in: not the same as no clients at all
    assert token not in run(toy, "clients", "history")
    assert len(run(toy, "clients", "history", "nobody").splitlines()) == 1
    assert "above 0" in run(
        toy, "clients", "add", "shop", "--per-second", "0", "--why", "x", code=2
    )


def test_nothing_is_lost_where_many_change_toggles_at_once(consul: Consul) -> None:
    flag = decode_flag(
        {"state": "ENABLED", "variants": {"on": True}, "defaultVariant": "on"}, "flag"
    )
    faults: list[Exception] = []

    def change(number: int) -> None:
        try:
            setting = OperatorSetting(store(consul), "crowded", "toggles")
            for n in range(5):
                set_flag(setting, f"flag-{number}-{n}", lambda _: flag, "me", "because")
        except Exception as error:  # noqa: BLE001  # shown below
            faults.append(error)

    threads = [threading.Thread(target=change, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    setting = OperatorSetting(store(consul), "crowded", "toggles")
    assert faults == []
    assert len(read_flags(setting).flags) == len(setting.history()) == 20


def test_a_token_without_the_right_is_named(tmp_path: Path) -> None:
    rules = {"enabled": True, "default_policy": "deny", "tokens": {"master": "root"}}
    with consul_server(tmp_path / "consul", acl=rules) as guarded:
        setting = OperatorSetting(store(guarded, "root"), "toy", "toggles")
        flag = decode_flag(
            {"state": "ENABLED", "variants": {"on": True}, "defaultVariant": "on"}, "flag"
        )
        assert set_flag(setting, "new", lambda _: flag, "me", "because")
        strange = OperatorSetting(store(guarded, "nobody"), "toy", "toggles")
        with pytest.raises(ClusterRefused):
            set_flag(strange, "new", lambda _: flag, "me", "because")
