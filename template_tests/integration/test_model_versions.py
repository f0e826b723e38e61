"""Several versions behind one gateway, as processes: shares, toggles, events, rewards, a bandit."""

from __future__ import annotations

import http.client
import json
import signal
import time
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest

from template_tests.support.live_toy import Crowd, LiveToy, Process, opened, wait_for
from template_tests.support.toy_service import MakeToy

SLOPES = {"stable": 1.0, "challenger": 0.5}


@pytest.fixture
def world(make_toy: MakeToy) -> Iterator[LiveToy]:
    with opened(make_toy()) as made:
        yield made


def workers(world: LiveToy, **more: str) -> dict[str, Process]:
    """A worker of each version, with a model of its own."""
    started = {}
    for version, slope in SLOPES.items():
        name = f"{version}.json"
        world.write(name, model=json.loads(world.model(slope).encode()))
        started[version] = world.start("worker", MLSERVICE_LIVE__FILE=name, **more)
    for worker in started.values():
        wait_for(worker.serves)
    return started


def write(world: LiveToy, started: dict[str, Process], **sections: Any) -> None:
    """The gateway's live file."""
    listed = [{"address": w.address, "version": version} for version, w in started.items()]
    world.write("gateway.json", workers=listed, **sections)


def gateway_of(world: LiveToy, started: dict[str, Process], **sections: Any) -> Process:
    write(world, started, **sections)
    gateway = world.start("gateway", MLSERVICE_LIVE__FILE="gateway.json")
    wait_for(gateway.ready)
    wait_for(lambda: len(gateway.lines("is ready")) == len(started))
    return gateway


def weights(**shares: float) -> dict[str, Any]:
    return {"policy": "weights", "weights": shares}


def ask(
    gateway: Process, x: float = 0.8, path: str = "/v1/predict", body: Any = None, **headers: Any
) -> tuple[int, dict[str, Any], dict[str, str]]:
    """Status, answer and headers of one request."""
    connection = http.client.HTTPConnection(gateway.address, timeout=30)
    try:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        connection.request("POST", path, json.dumps(body or {"x": x}), named)
        response = connection.getresponse()
        kept = {name.lower(): value for name, value in response.getheaders()}
        return response.status, json.loads(response.read()), kept
    finally:
        connection.close()


def version(gateway: Process, **headers: Any) -> str:
    """The version that answers, by its slope."""
    status, answer, _ = ask(gateway, 0.8, **headers)
    assert status == 200, answer
    return "stable" if answer["prediction"]["score"] > 0.6 else "challenger"


def events(world: LiveToy) -> list[dict[str, Any]]:
    """All that was told so far."""
    files = sorted((world.toy.folder / ".mlservice" / "events").glob("*.jsonl"))
    texts = [file.read_text("utf-8") for file in files]  # a last line may be half written
    return [
        json.loads(line) for text in texts for line in text[: text.rfind("\n") + 1].splitlines()
    ]


def test_users_are_dealt_by_weights_and_stay_also_in_another_gateway(world: LiveToy) -> None:
    started = workers(world)
    first = gateway_of(world, started, routing=weights(stable=70, challenger=30))
    dealt = {f"user-{n}": version(first, X_User_Id=f"user-{n}") for n in range(200)}
    assert 0.2 < Counter(dealt.values())["challenger"] / 200 < 0.4
    assert all(version(first, X_User_Id=user) == dealt[user] for user in list(dealt)[:20])
    first.stop()
    told = [event for event in events(world) if event["event"] == "prediction"]
    assert len(told) == 220
    assert {(e["assigned"], e["probability"]) for e in told} == {
        ("stable", 0.7),
        ("challenger", 0.3),
    }
    assert all(e["version"] == e["assigned"] == dealt[e["user"]] for e in told)
    second = gateway_of(world, started, routing=weights(stable=70, challenger=30))
    assert all(version(second, X_User_Id=user) == dealt[user] for user in list(dealt)[:50])


def test_a_weight_of_0_gets_no_request_after_the_reload(world: LiveToy) -> None:
    started = workers(world)
    gateway = gateway_of(world, started, routing=weights(stable=1, challenger=1))
    assert {version(gateway) for _ in range(30)} == set(SLOPES)
    write(world, started, routing=weights(stable=0, challenger=1))
    wait_for(lambda: gateway.lines("stable 0, challenger 1"))
    assert {version(gateway) for _ in range(50)} == {"challenger"}
    write(world, started, routing=weights(stable=1, challenger=1))
    wait_for(lambda: len(gateway.lines("stable 0.5, challenger 0.5")) == 2)
    assert {version(gateway) for _ in range(30)} == set(SLOPES)


def test_a_version_whose_workers_are_gone_is_answered_by_the_other_and_marked(
    world: LiveToy,
) -> None:
    started = workers(world)
    gateway = gateway_of(world, started, routing=weights(stable=1, challenger=1))
    started["challenger"].process.kill()
    wait_for(lambda: gateway.lines(f"{started['challenger'].address} does not answer"))
    found = [ask(gateway, X_User_Id=f"u{n}") for n in range(20)]
    assert {status for status, _, _ in found} == {200}
    assert {answer["prediction"]["score"] for _, answer, _ in found} == {0.8}
    marks = Counter(headers.get("x-fallback") for _, _, headers in found)
    assert set(marks) == {None, "version"}
    started["stable"].process.kill()
    wait_for(lambda: not gateway.ready())
    assert ask(gateway)[0] == 503
    again = world.start(
        "worker",
        MLSERVICE_LIVE__FILE="stable.json",
        MLSERVICE_WORKER__PORT=started["stable"].address.split(":")[1],
    )
    wait_for(again.serves)
    wait_for(gateway.ready)
    assert version(gateway) == "stable"


def test_a_routing_to_a_version_that_no_worker_serves_is_said(world: LiveToy) -> None:
    started = workers(world)
    gateway = gateway_of(world, started, routing=weights(stable=1, nobody=1))
    found = [ask(gateway, X_User_Id=f"u{n}") for n in range(20)]
    assert {status for status, _, _ in found} == {200}
    assert Counter(headers.get("x-fallback") for _, _, headers in found)["version"] > 3
    write(world, started, routing=weights(nobody=1))
    wait_for(lambda: ask(gateway)[0] == 503)
    assert "nobody" in ask(gateway)[1]["detail"]
    assert not gateway.ready()


@pytest.mark.parametrize(
    "broken",
    [
        b'{"format": 1, "workers": ["127.0.0.1:1"], "routing": {"policy": "weig',
        b'{"format": 1, "routing": {"policy": "weights", "weights": {"stable": -1}}}',
        b'{"format": 2}',
        b"",
    ],
)
def test_a_broken_live_file_changes_nothing(world: LiveToy, broken: bytes) -> None:
    started = workers(world)
    gateway = gateway_of(world, started, routing=weights(challenger=1))
    with Crowd(gateway, 2) as crowd:
        world.put(broken, "gateway.json")
        wait_for(lambda: gateway.lines("the last good one stays"))
        crowd.see(100)
        assert version(gateway) == "challenger"
        write(world, started, routing=weights(stable=1))
        wait_for(lambda: version(gateway) == "stable")
    assert crowd.faults == []


def test_a_change_is_in_force_within_a_second_and_at_once_on_sighup(world: LiveToy) -> None:
    started = workers(world)
    gateway = gateway_of(world, started, routing=weights(stable=1))
    write(world, started, routing=weights(challenger=1))
    assert wait_for(lambda: version(gateway) == "challenger") < 1
    gateway.stop()
    write(world, started, routing=weights(stable=1))
    asked = world.start(
        "gateway", MLSERVICE_LIVE__FILE="gateway.json", MLSERVICE_LIVE__WATCH="false"
    )
    wait_for(asked.ready)
    write(world, started, routing=weights(challenger=1))
    time.sleep(0.5)
    assert version(asked) == "stable"
    asked.process.send_signal(signal.SIGHUP)
    assert wait_for(lambda: version(asked) == "challenger") < 0.5


def test_what_no_user_id_and_no_reward_can_be_is_refused_by_name(world: LiveToy) -> None:
    gateway = world.start("gateway", MLSERVICE_LIVE__FILE="")
    wait_for(lambda: answers(gateway))
    for user in ("", "x" * 257, "a\tb", "\xff\xfe"):
        status, answer, _ = ask(gateway, X_User_Id=user.encode("latin-1"))
        assert (status, answer["faults"][0]["field"]) == (400, "X-User-Id")
    assert ask(gateway, X_User_Id="Jürgen Ångström".encode())[0] == 503  # no worker, but a user
    for body, field in REFUSED_REWARDS:
        status, answer, _ = ask(gateway, path="/v1/rewards", body=body)
        assert (status, answer["faults"][0]["field"]) == (422, field)


REFUSED_REWARDS: list[tuple[dict[str, Any], str]] = [
    ({"request_id": "r"}, "reward"),
    ({"request_id": "r", "reward": "1"}, "reward"),
    ({"request_id": "r", "reward": 1e10}, "reward"),
    ({"request_id": "", "reward": 1}, "request_id"),
    ({"request_id": "r", "reward": 1, "x": 1}, "x"),
]


def answers(gateway: Process) -> bool:
    """Whether it listens."""
    try:
        ask(gateway)
    except OSError:
        return False
    return True


def test_a_reward_is_taken_and_counted_once(world: LiveToy) -> None:
    started = workers(world)
    gateway = gateway_of(world, started, routing=weights(stable=1, challenger=1))
    statistics = statistics_of(world)
    found: Counter[str] = Counter()
    for n in range(40):
        name = version(gateway, X_Request_Id=f"r{n}")
        found[name] += 1
        reward = {"request_id": f"r{n}", "reward": 1 if name == "stable" else 0}
        for _ in range(2):
            status, answer, _ = ask(gateway, path="/v1/rewards", body=reward)
            assert (status, answer) == (202, {"request_id": f"r{n}"})
    wait_for(lambda: told(statistics).get("stable", {}).get("count") == found["stable"])
    wait_for(lambda: told(statistics)["challenger"]["count"] == found["challenger"])
    assert told(statistics)["stable"]["sum"] == found["stable"]
    assert told(statistics)["challenger"]["sum"] == 0


def statistics_of(world: LiveToy) -> str:
    """The address of a running statistics service."""
    environ = world.environ()
    port = environ["MLSERVICE_GATEWAY__PORT"]
    started = world.toy.start("serve", "statistics", MLSERVICE_REWARDS__PORT=port)
    world.files.callback(world.files.enter_context(started).terminate)
    address = f"127.0.0.1:{port}"
    wait_for(lambda: told(address) is not None)
    return address


def told(address: str) -> Any:
    """What the statistics service says of each version; None where it does not answer."""
    connection = http.client.HTTPConnection(address, timeout=10)
    try:
        connection.request("GET", "/v1/statistics")
        return json.loads(connection.getresponse().read())["versions"]
    except OSError:
        return None
    finally:
        connection.close()


def test_a_bandit_learns_from_rewards_and_falls_back_when_nobody_counts(world: LiveToy) -> None:
    started = workers(world)
    address = statistics_of(world)
    policy = {
        "policy": "thompson",
        "weights": {"stable": 1, "challenger": 1},
        "statistics": f"http://{address}/v1/statistics",
        "poll_seconds": 0.2,
        "stale_seconds": 5,
        "floor": 0.05,
    }
    gateway = gateway_of(world, started, routing=policy)
    wait_for(lambda: gateway.lines("shares by policy thompson"))
    for n in range(150):
        name = version(gateway, X_Request_Id=f"r{n}")
        reward = {"request_id": f"r{n}", "reward": 1 if name == "challenger" else 0}
        ask(gateway, path="/v1/rewards", body=reward)
    time.sleep(0.6)
    last = Counter(version(gateway) for _ in range(60))
    assert last["challenger"] > 45, last
    wait_for(lambda: len(events(world)) >= 360)
    chosen = [event for event in events(world) if event["event"] == "prediction"]
    assert {event["policy"] for event in chosen[20:]} == {"thompson"}
    assert 0.9 < chosen[-1]["probability"] < 0.96 or chosen[-1]["version"] == "stable"
    write(world, started, routing={**policy, "statistics": "http://127.0.0.1:9/v1/statistics"})
    wait_for(lambda: gateway.lines("does not answer: "))
    wait_for(lambda: Counter(version(gateway) for _ in range(40))["stable"] > 8)


def test_stages_and_what_was_left_of_the_time_are_shown_where_asked(world: LiveToy) -> None:
    gateway = gateway_of(world, workers(world))
    plain = ask(gateway)[2]
    assert "server-timing" not in plain
    headers = ask(gateway, X_Debug_Timing="1", X_Request_Timeout_Ms="800")[2]
    parts = dict(part.split(";dur=") for part in headers["server-timing"].split(", "))
    assert set(parts) == {"validate", "queue", "worker", "respond", "total", "left"}
    spent = {name: float(value) for name, value in parts.items()}
    assert spent["total"] + spent["left"] == pytest.approx(800, abs=0.01)
    stages = sum(spent[name] for name in ("validate", "queue", "worker", "respond"))
    assert stages <= spent["total"] + 0.01
