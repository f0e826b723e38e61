"""Services and their deployments on the double, with a real Consul and consul-template."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from nomad_world import (
    SECOND,
    World,
    details,
    events,
    eventually,
    kinds,
    service,
    shell,
    world,
)
from template_tests.support.servers import consul_server, require

Json = dict[str, Any]
SLEEP = shell("sleep 300")


@pytest.fixture
def alone(tmp_path: Path) -> Iterator[World]:
    with world(tmp_path) as found:
        yield found


def ended(found: World, job: str, version: int) -> Json:
    """The deployment of a version, once it is over."""

    def look() -> list[Json]:
        every: list[Json] = found.get(f"/v1/job/{job}/deployments")
        return [d for d in every if d["JobVersion"] == version and d["Status"] != "running"]

    return eventually(look)[0]  # type: ignore[no-any-return]  # JSON


def live(found: World, job: str) -> list[Json]:
    """The allocations that are meant to run and do, by their names."""
    every = found.get(f"/v1/job/{job}/allocations")
    running = [a for a in every if a["ClientStatus"] in ("pending", "running")]
    running = [alloc for alloc in running if alloc["DesiredStatus"] == "run"]
    return sorted(running, key=lambda alloc: (alloc["Name"], alloc["CreateIndex"]))


def changed(value: str) -> Json:
    """The sleeping task, changed in a way that needs new allocations."""
    return {**SLEEP, "Env": {"V": value}}


def test_the_first_version_is_a_deployment_without_canaries_and_becomes_stable(
    alone: World,
) -> None:
    alone.register(service("s", SLEEP, {"Count": 2}, Canary=1))
    deployment = ended(alone, "s", 0)
    group = deployment["TaskGroups"]["g"]
    assert deployment["StatusDescription"] == "Deployment completed successfully"
    assert (group["DesiredCanaries"], group["DesiredTotal"], group["HealthyAllocs"]) == (0, 2, 2)
    assert alone.get("/v1/job/s")["Stable"] is True
    assert [alloc["Name"] for alloc in live(alone, "s")] == ["s.g[0]", "s.g[1]"]


@pytest.mark.parametrize(
    "group",
    [{"ShutdownDelay": SECOND}, {"RestartPolicy": {"Attempts": 1}}, {"Count": 3}],
)
def test_what_can_be_changed_in_place_is_deployed_without_canaries(
    alone: World, group: Json
) -> None:
    alone.register(service("s", SLEEP, {"Count": 2}, Canary=1))
    ended(alone, "s", 0)
    before = {alloc["ID"] for alloc in live(alone, "s")}
    alone.register(service("s", SLEEP, {"Count": 2, **group}, Canary=1))
    deployment = ended(alone, "s", 1)
    assert deployment["Status"] == "successful"
    assert deployment["TaskGroups"]["g"]["DesiredCanaries"] == 0
    assert before <= {alloc["ID"] for alloc in live(alone, "s")}
    assert {alloc["JobVersion"] for alloc in live(alone, "s")} == {1}


def test_a_destructive_change_places_canaries_beside_the_old_until_they_are_promoted(
    alone: World,
) -> None:
    alone.register(service("s", changed("1"), {"Count": 2}, Canary=1))
    ended(alone, "s", 0)
    alone.register(service("s", changed("2"), {"Count": 2}, Canary=1))
    eventually(lambda: alone.deployment("s")["TaskGroups"]["g"]["PlacedCanaries"])
    deployment = alone.deployment("s")
    waiting = "Deployment is running but requires manual promotion"
    assert deployment["StatusDescription"] == waiting
    body = {"DeploymentID": deployment["ID"], "All": True}
    answer = alone.ask("POST", f"/v1/deployment/promote/{deployment['ID']}", body)
    if answer.status_code != 200:  # unless it became healthy in the meantime
        text = '1 error occurred:\n\t* Task group "g" has 0/1 healthy allocations\n\n'
        assert (answer.status_code, answer.text) == (500, text)
        eventually(lambda: alone.deployment("s")["TaskGroups"]["g"]["HealthyAllocs"] == 1)
        assert [a["JobVersion"] for a in live(alone, "s")] == [0, 1, 0]
        canary = live(alone, "s")[1]
        assert canary["DeploymentStatus"]["Canary"] is True
        answer = alone.ask("POST", f"/v1/deployment/promote/{deployment['ID']}", body)
    assert answer.status_code == 200
    assert ended(alone, "s", 1)["TaskGroups"]["g"]["Promoted"] is True
    found = live(alone, "s")
    assert [(a["JobVersion"], a["DeploymentStatus"]["Canary"]) for a in found] == [(1, False)] * 2


def test_auto_promote_needs_nobody(alone: World) -> None:
    alone.register(service("s", changed("1"), {"Count": 2}, Canary=2, AutoPromote=True))
    ended(alone, "s", 0)
    alone.register(service("s", changed("2"), {"Count": 2}, Canary=2, AutoPromote=True))
    words = "Deployment is running pending automatic promotion"
    eventually(lambda: alone.deployment("s")["StatusDescription"] == words)
    assert ended(alone, "s", 1)["Status"] == "successful"
    assert {alloc["JobVersion"] for alloc in live(alone, "s")} == {1}


def test_without_canaries_a_change_rolls_by_max_parallel(alone: World) -> None:
    alone.register(service("s", changed("1"), {"Count": 3}))
    ended(alone, "s", 0)
    alone.register(service("s", changed("2"), {"Count": 3}))
    least = 3
    while alone.deployment("s")["JobVersion"] == 0 or alone.deployment("s")["Status"] == "running":
        least = min(least, len(live(alone, "s")))
    assert alone.deployment("s")["Status"] == "successful"
    assert least >= 2
    assert {alloc["JobVersion"] for alloc in live(alone, "s")} == {1}


def test_a_deployment_that_fails_goes_back_to_the_stable_version_as_a_new_one(alone: World) -> None:
    alone.register(service("s", changed("1"), Canary=1, AutoRevert=True))
    ended(alone, "s", 0)
    bad = service("s", shell("exit 1"), Canary=1, AutoRevert=True)
    alone.register(bad)
    failed = ended(alone, "s", 1)
    words = "Failed due to unhealthy allocations - rolling back to job version 0"
    assert (failed["Status"], failed["StatusDescription"]) == ("failed", words)
    assert ended(alone, "s", 2)["Status"] == "successful"
    job = alone.get("/v1/job/s")
    assert (job["Version"], job["TaskGroups"][0]["Tasks"][0]["Env"]) == (2, {"V": "1"})


def test_without_auto_revert_the_job_stays_at_the_version_that_failed(alone: World) -> None:
    alone.register(service("s", changed("1"), Canary=1))
    ended(alone, "s", 0)
    old = live(alone, "s")[0]["ID"]
    alone.register(service("s", changed("2"), Canary=1))
    eventually(lambda: alone.deployment("s")["TaskGroups"]["g"]["PlacedCanaries"])
    answer = alone.post(f"/v1/deployment/fail/{alone.deployment('s')['ID']}")
    assert answer["RevertedJobVersion"] is None
    assert ended(alone, "s", 1)["StatusDescription"] == "Deployment marked as failed"
    eventually(lambda: [alloc["ID"] for alloc in live(alone, "s")] == [old])
    assert (alone.get("/v1/job/s")["Version"], alone.get("/v1/job/s")["Stable"]) == (1, False)
    again = alone.ask("POST", f"/v1/deployment/fail/{alone.deployment('s')['ID']}")
    assert again.text == "can't fail terminal deployment"


def test_a_first_version_that_fails_has_nothing_to_go_back_to(alone: World) -> None:
    alone.register(service("s", shell("exit 1"), AutoRevert=True))
    words = "Failed due to unhealthy allocations - no stable job version to auto revert to"
    assert ended(alone, "s", 0)["StatusDescription"] == words


def test_a_deployment_that_makes_no_progress_fails_at_its_deadline(alone: World) -> None:
    quick = {"HealthyDeadline": SECOND, "ProgressDeadline": 2 * SECOND}
    again = {"RestartPolicy": {"Attempts": 20, "Delay": SECOND // 10}}
    alone.register(service("s", shell("sleep 0.1; exit 1"), again, **quick))
    assert ended(alone, "s", 0)["StatusDescription"] == "Failed due to progress deadline"


def test_a_newer_version_cancels_the_deployment_of_the_older(alone: World) -> None:
    alone.register(service("s", changed("1"), Canary=1))
    ended(alone, "s", 0)
    alone.register(service("s", changed("2"), Canary=1))
    eventually(lambda: alone.deployment("s")["TaskGroups"]["g"]["PlacedCanaries"])
    alone.register(service("s", changed("3"), Canary=1))
    cancelled = ended(alone, "s", 1)
    words = "Cancelled due to newer version of job"
    assert (cancelled["Status"], cancelled["StatusDescription"]) == ("cancelled", words)
    eventually(lambda: [a["JobVersion"] for a in live(alone, "s")] == [0, 2])
    alone.ask("DELETE", "/v1/job/s")
    assert ended(alone, "s", 2)["StatusDescription"] == "Cancelled because job is stopped"


def test_a_paused_deployment_goes_on_where_it_stopped(alone: World) -> None:
    alone.register(service("s", changed("1"), MinHealthyTime=SECOND))
    name = alone.deployment("s")["ID"]
    body = {"DeploymentID": name, "Pause": True}
    assert alone.post(f"/v1/deployment/pause/{name}", body)["EvalID"] == ""
    assert alone.deployment("s")["StatusDescription"] == "Deployment is paused"
    alone.post(f"/v1/deployment/pause/{name}", {**body, "Pause": False})
    assert ended(alone, "s", 0)["Status"] == "successful"


def test_reverting_registers_the_old_spec_as_a_new_version(alone: World) -> None:
    alone.register(service("s", changed("1")))
    ended(alone, "s", 0)
    alone.register(service("s", changed("2")))
    ended(alone, "s", 1)
    body = {"JobID": "s", "JobVersion": 0}
    answer = alone.ask("POST", "/v1/job/s/revert", {**body, "EnforcePriorVersion": 5})
    assert answer.text == "Current job has version 1; enforcing version 5"
    alone.post("/v1/job/s/revert", body)
    assert ended(alone, "s", 2)["Status"] == "successful"
    assert alone.get("/v1/job/s")["TaskGroups"][0]["Tasks"][0]["Env"] == {"V": "1"}


def test_scaling_changes_the_count_alone(alone: World) -> None:
    alone.register(service("s", SLEEP, {"Count": 1}))
    ended(alone, "s", 0)
    alone.post("/v1/job/s/scale", {"Count": 2, "Target": {"Group": "g"}})
    eventually(lambda: len(live(alone, "s")) == 2)
    alone.post("/v1/job/s/scale", {"Count": 1, "Target": {"Group": "g"}})
    eventually(lambda: [alloc["Name"] for alloc in live(alone, "s")] == ["s.g[0]"])


@pytest.fixture
def joined(tmp_path: Path) -> Iterator[tuple[World, str]]:
    """The double with a real Consul and consul-template, and Consul's URL."""
    with (
        consul_server(tmp_path / "consul") as consul,
        world(
            tmp_path / "nomad", consul=consul.address, consul_template=require("consul-template")
        ) as found,
    ):
        yield found, f"http://{consul.address}"


def web(check: Json | None = None, **task: Any) -> tuple[Json, Json]:
    """A task that serves HTTP, and its group with a service and a check."""
    args = ["-m", "http.server", "${NOMAD_PORT_http}", "--bind", "127.0.0.1"]
    serving = shell("", **{"Config": {"command": sys.executable, "args": args}, **task})
    probe = {"Name": "up", "Type": "http", "Path": "/", "Interval": SECOND, "Timeout": SECOND}
    entry = {
        "Name": "web", "PortLabel": "http", "Tags": ["plain", "${NOMAD_JOB_NAME}"],
        "CanaryTags": ["canary"], "Checks": [{**probe, **(check or {})}],
    }  # fmt: skip
    return serving, {"Networks": [{"DynamicPorts": [{"Label": "http"}]}], "Services": [entry]}


def healthy(consul: str) -> list[Json]:
    """The instances of the service that pass their checks."""
    found: list[Json] = requests.get(f"{consul}/v1/health/service/web?passing", timeout=5).json()
    return found


@pytest.mark.servers
def test_services_are_in_consul_with_their_tags_and_leave_before_the_shutdown_delay(
    joined: tuple[World, str],
) -> None:
    found, consul = joined
    task, group = web()
    group["ShutdownDelay"] = 2 * SECOND
    checks = {
        "HealthCheck": "checks",
        "HealthyDeadline": 20 * SECOND,
        "ProgressDeadline": 30 * SECOND,
    }
    found.register(service("s", task, group, Canary=1, **checks))
    assert ended(found, "s", 0)["Status"] == "successful"
    # The agent knows of a check before the catalog does.
    (instance,) = eventually(lambda: healthy(consul))
    alloc = live(found, "s")[0]["ID"]
    assert instance["Service"]["ID"] == f"_nomad-task-{alloc}-group-g-web-http"
    assert instance["Service"]["Tags"] == ["plain", "s"]
    found.register(service("s", {**task, "Env": {"V": "2"}}, group, Canary=1, **checks))
    eventually(lambda: found.deployment("s")["JobVersion"] == 1)
    eventually(lambda: found.deployment("s")["TaskGroups"]["g"]["HealthyAllocs"] == 1)
    both = [["canary"], ["plain", "s"]]
    eventually(lambda: sorted(i["Service"]["Tags"] for i in healthy(consul)) == both)
    name = found.deployment("s")["ID"]
    found.post(f"/v1/deployment/promote/{name}", {"DeploymentID": name, "All": True})
    ended(found, "s", 1)
    eventually(lambda: [i["Service"]["Tags"] for i in healthy(consul)] == [["plain", "s"]])
    port = healthy(consul)[0]["Service"]["Port"]
    found.ask("DELETE", "/v1/job/s")
    eventually(lambda: not healthy(consul))
    assert requests.get(f"http://127.0.0.1:{port}", timeout=5).status_code == 200
    eventually(lambda: found.newest("s")["ClientStatus"] == "complete")


@pytest.mark.servers
def test_a_check_that_never_passes_keeps_the_deployment_from_success(
    joined: tuple[World, str],
) -> None:
    found, consul = joined
    task, group = web({"Path": "/none"})
    found.register(service("s", task, group, HealthCheck="checks"))
    assert ended(found, "s", 0)["StatusDescription"] == "Failed due to progress deadline"
    assert healthy(consul) == []


@pytest.mark.servers
def test_a_failing_check_restarts_the_task_only_by_check_restart(joined: tuple[World, str]) -> None:
    found, _ = joined
    rule = {"Limit": 2, "Grace": SECOND}
    task, group = web({"Path": "/none", "CheckRestart": rule})
    group["RestartPolicy"] = {"Attempts": 1, "Delay": SECOND // 10, "Mode": "fail"}
    found.register(service("s", task, group))
    alloc = eventually(lambda: [a for a in [found.newest("s")] if "Restart Signaled" in kinds(a)])[
        0
    ]
    reason = 'healthcheck: check "up" unhealthy'
    assert details(alloc, "Restart Signaled") == {"restart_reason": reason}
    eventually(lambda: found.newest("s")["ClientStatus"] == "failed")
    assert (
        "Exceeded allowed attempts 1"
        in details(found.newest("s"), "Not Restarting")["restart_reason"]
    )


def template(text: str, mode: str = "noop", **more: Any) -> Json:
    wait = {"Min": SECOND // 10, "Max": SECOND}
    return {
        "EmbeddedTmpl": text, "DestPath": "local/x", "ChangeMode": mode, "Splay": 0, "Wait": wait,
        **more,
    }  # fmt: skip


LOOP = "trap 'echo hup' HUP; cat local/x; echo; while :; do sleep 0.1; done"


@pytest.mark.servers
def test_a_template_with_a_missing_key_keeps_its_task_pending_and_says_why(
    joined: tuple[World, str],
) -> None:
    found, consul = joined
    found.register(service("s", shell(LOOP, Templates=[template('{{ key "a/b" }}')])))
    alloc = eventually(lambda: [a for a in [found.newest("s")] if "Template" in kinds(a)])[0]
    assert events(alloc)[-1]["DisplayMessage"] == "Missing: kv.block(a/b)"
    assert (alloc["ClientStatus"], alloc["TaskStates"]["t"]["State"]) == ("pending", "pending")
    requests.put(f"{consul}/v1/kv/a/b", "there", timeout=5)
    eventually(lambda: found.newest("s")["ClientStatus"] == "running")
    eventually(lambda: found.log(alloc) == "there\n")


@pytest.mark.servers
@pytest.mark.parametrize(
    ("mode", "log"), [("noop", "old\n"), ("signal", "old\nhup\n"), ("restart", "old\nnew\n")]
)
def test_a_template_that_changes_acts_by_its_change_mode(
    joined: tuple[World, str], mode: str, log: str
) -> None:
    found, consul = joined
    text = '{{ keyOrDefault "k" "" }}'
    requests.put(f"{consul}/v1/kv/k", "old", timeout=5)
    made = template(text, mode, ChangeSignal="SIGHUP" if mode == "signal" else "")
    found.register(service("s", shell(LOOP, Templates=[made])))
    alloc = found.newest("s")
    eventually(
        lambda: found.newest("s")["ClientStatus"] == "running" and found.log(alloc) == "old\n"
    )
    requests.put(f"{consul}/v1/kv/k", "new", timeout=5)
    file = found.double.client.folder / "alloc" / alloc["ID"] / "t" / "local" / "x"
    eventually(lambda: file.read_text() == "new")
    eventually(lambda: found.log(alloc) == log)
    if mode == "restart":
        eventually(lambda: found.newest("s")["TaskStates"]["t"]["Restarts"] == 1)
        event = next(e for e in events(found.newest("s")) if e["Type"] == "Restart Signaled")
        assert event["DisplayMessage"] == "Template with change_mode restart re-rendered"
        assert event["Details"] == {}
    if mode == "signal":
        alloc = eventually(lambda: [a for a in [found.newest("s")] if "Signaling" in kinds(a)])[0]
        assert details(alloc, "Signaling") == {"task_signal": "SIGHUP"}


@pytest.mark.servers
def test_an_env_template_becomes_environment(joined: tuple[World, str]) -> None:
    found, consul = joined
    requests.put(f"{consul}/v1/kv/k", 'a "b"\nc', timeout=5)
    text = '# a comment\nONE=1\nTWO={{ key "k" | toJSON }}\nTHREE={{ env "NOMAD_JOB_ID" }}\n'
    task = shell('echo "$ONE|$TWO|$THREE"; sleep 60', Templates=[template(text, Envvars=True)])
    found.register(service("s", task))
    eventually(lambda: found.newest("s")["ClientStatus"] == "running")
    eventually(lambda: found.log(found.newest("s")) == '1|a "b"\nc|s\n')


@pytest.mark.servers
def test_a_template_that_cannot_be_read_kills_its_task(joined: tuple[World, str]) -> None:
    found, _ = joined
    found.register(service("s", shell(LOOP, Templates=[template("{{ nonsense }")])))
    eventually(lambda: found.newest("s")["ClientStatus"] == "failed")
    killing = next(e for e in events(found.newest("s")) if e["Type"] == "Killing")
    assert killing["DisplayMessage"].startswith("Template failed: ")
    assert killing["Details"]["fails_task"] == "true"
