"""Services and templates, with a real Consul and consul-template."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from nomad_cluster import (
    SECOND,
    Cluster,
    Json,
    ended,
    event_details,
    event_types,
    eventually,
    live,
    running_cluster,
    service_job,
    shell_task,
    task_events,
)
from template_tests.support.servers import consul_server, require


@pytest.fixture
def cluster_with_consul(tmp_path: Path) -> Iterator[tuple[Cluster, str]]:
    """The double with a real Consul and consul-template, and Consul's URL."""
    with (
        consul_server(tmp_path / "consul") as consul,
        running_cluster(
            tmp_path / "nomad", consul=consul.address, consul_template=require("consul-template")
        ) as cluster,
    ):
        yield cluster, f"http://{consul.address}"


def web(check: Json | None = None, **task: Any) -> tuple[Json, Json]:
    """A task that serves HTTP, and its group with a service and a check."""
    args = ["-m", "http.server", "${NOMAD_PORT_http}", "--bind", "127.0.0.1"]
    serving = shell_task("", **{"Config": {"command": sys.executable, "args": args}, **task})
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


def template(text: str, mode: str = "noop", **more: Any) -> Json:
    wait = {"Min": SECOND // 10, "Max": SECOND}
    return {
        "EmbeddedTmpl": text, "DestPath": "local/x", "ChangeMode": mode, "Splay": 0, "Wait": wait,
        **more,
    }  # fmt: skip


LOOP = "trap 'echo hup' HUP; cat local/x; echo; while :; do sleep 0.1; done"


@pytest.mark.fact("service-tags", "service-leaves")
@pytest.mark.servers
def test_services_are_in_consul_with_their_tags_and_leave_before_the_shutdown_delay(
    cluster_with_consul: tuple[Cluster, str],
) -> None:
    cluster, consul = cluster_with_consul
    task, group = web()
    group["ShutdownDelay"] = 2 * SECOND
    checks = {
        "HealthCheck": "checks",
        "HealthyDeadline": 20 * SECOND,
        "ProgressDeadline": 30 * SECOND,
    }
    cluster.register(service_job("s", task, group, Canary=1, **checks))
    assert ended(cluster, "s", 0)["Status"] == "successful"
    # The agent knows of a check before the catalog does.
    (instance,) = eventually(lambda: healthy(consul))
    alloc = live(cluster, "s")[0]["ID"]
    assert instance["Service"]["ID"] == f"_nomad-task-{alloc}-group-g-web-http"
    assert instance["Service"]["Tags"] == ["plain", "s"]
    cluster.register(service_job("s", {**task, "Env": {"V": "2"}}, group, Canary=1, **checks))
    eventually(lambda: cluster.deployment("s")["JobVersion"] == 1)
    eventually(lambda: cluster.deployment("s")["TaskGroups"]["g"]["HealthyAllocs"] == 1)
    both = [["canary"], ["plain", "s"]]
    eventually(lambda: sorted(i["Service"]["Tags"] for i in healthy(consul)) == both)
    name = cluster.deployment("s")["ID"]
    cluster.post(f"/v1/deployment/promote/{name}", {"DeploymentID": name, "All": True})
    ended(cluster, "s", 1)
    eventually(lambda: [i["Service"]["Tags"] for i in healthy(consul)] == [["plain", "s"]])
    port = healthy(consul)[0]["Service"]["Port"]
    cluster.request("DELETE", "/v1/job/s")
    eventually(lambda: not healthy(consul))
    assert requests.get(f"http://127.0.0.1:{port}", timeout=5).status_code == 200
    eventually(lambda: cluster.newest_alloc("s")["ClientStatus"] == "complete")


@pytest.mark.fact("check-deployment")
@pytest.mark.servers
def test_a_check_that_never_passes_keeps_the_deployment_from_success(
    cluster_with_consul: tuple[Cluster, str],
) -> None:
    cluster, consul = cluster_with_consul
    task, group = web({"Path": "/none"})
    cluster.register(service_job("s", task, group, HealthCheck="checks"))
    assert ended(cluster, "s", 0)["StatusDescription"] == "Failed due to progress deadline"
    assert healthy(consul) == []


@pytest.mark.fact("check-restart")
@pytest.mark.servers
def test_a_failing_check_restarts_the_task_only_by_check_restart(
    cluster_with_consul: tuple[Cluster, str],
) -> None:
    cluster, _ = cluster_with_consul
    rule = {"Limit": 2, "Grace": SECOND}
    task, group = web({"Path": "/none", "CheckRestart": rule})
    group["RestartPolicy"] = {"Attempts": 1, "Delay": SECOND // 10, "Mode": "fail"}
    cluster.register(service_job("s", task, group))
    alloc = eventually(
        lambda: [a for a in [cluster.newest_alloc("s")] if "Restart Signaled" in event_types(a)]
    )[0]
    reason = 'healthcheck: check "up" unhealthy'
    assert event_details(alloc, "Restart Signaled") == {"restart_reason": reason}
    eventually(lambda: cluster.newest_alloc("s")["ClientStatus"] == "failed")
    assert (
        "Exceeded allowed attempts 1"
        in event_details(cluster.newest_alloc("s"), "Not Restarting")["restart_reason"]
    )


@pytest.mark.fact("template-missing")
@pytest.mark.servers
def test_a_template_with_a_missing_key_keeps_its_task_pending_and_says_why(
    cluster_with_consul: tuple[Cluster, str],
) -> None:
    cluster, consul = cluster_with_consul
    cluster.register(service_job("s", shell_task(LOOP, Templates=[template('{{ key "a/b" }}')])))
    alloc = eventually(
        lambda: [a for a in [cluster.newest_alloc("s")] if "Template" in event_types(a)]
    )[0]
    assert task_events(alloc)[-1]["DisplayMessage"] == "Missing: kv.block(a/b)"
    assert (alloc["ClientStatus"], alloc["TaskStates"]["t"]["State"]) == ("pending", "pending")
    requests.put(f"{consul}/v1/kv/a/b", "there", timeout=5)
    eventually(lambda: cluster.newest_alloc("s")["ClientStatus"] == "running")
    eventually(lambda: cluster.log(alloc) == "there\n")


@pytest.mark.fact("template-change")
@pytest.mark.servers
@pytest.mark.parametrize(
    ("mode", "log"), [("noop", "old\n"), ("signal", "old\nhup\n"), ("restart", "old\nnew\n")]
)
def test_a_template_that_changes_acts_by_its_change_mode(
    cluster_with_consul: tuple[Cluster, str], mode: str, log: str
) -> None:
    cluster, consul = cluster_with_consul
    text = '{{ keyOrDefault "k" "" }}'
    requests.put(f"{consul}/v1/kv/k", "old", timeout=5)
    made = template(text, mode, ChangeSignal="SIGHUP" if mode == "signal" else "")
    cluster.register(service_job("s", shell_task(LOOP, Templates=[made])))
    alloc = cluster.newest_alloc("s")
    eventually(
        lambda: (
            cluster.newest_alloc("s")["ClientStatus"] == "running" and cluster.log(alloc) == "old\n"
        )
    )
    requests.put(f"{consul}/v1/kv/k", "new", timeout=5)
    file = cluster.double.client.folder / "alloc" / alloc["ID"] / "t" / "local" / "x"
    eventually(lambda: file.read_text() == "new")
    eventually(lambda: cluster.log(alloc) == log)
    if mode == "restart":
        eventually(lambda: cluster.newest_alloc("s")["TaskStates"]["t"]["Restarts"] == 1)
        event = next(
            e for e in task_events(cluster.newest_alloc("s")) if e["Type"] == "Restart Signaled"
        )
        assert event["DisplayMessage"] == "Template with change_mode restart re-rendered"
        assert event["Details"] == {}
    if mode == "signal":
        alloc = eventually(
            lambda: [a for a in [cluster.newest_alloc("s")] if "Signaling" in event_types(a)]
        )[0]
        assert event_details(alloc, "Signaling") == {"task_signal": "SIGHUP"}


@pytest.mark.fact("template-env")
@pytest.mark.servers
def test_an_env_template_becomes_environment(cluster_with_consul: tuple[Cluster, str]) -> None:
    cluster, consul = cluster_with_consul
    requests.put(f"{consul}/v1/kv/k", 'a "b"\nc', timeout=5)
    text = '# a comment\nONE=1\nTWO={{ key "k" | toJSON }}\nTHREE={{ env "NOMAD_JOB_ID" }}\n'
    task = shell_task('echo "$ONE|$TWO|$THREE"; sleep 60', Templates=[template(text, Envvars=True)])
    cluster.register(service_job("s", task))
    eventually(lambda: cluster.newest_alloc("s")["ClientStatus"] == "running")
    eventually(lambda: cluster.log(cluster.newest_alloc("s")) == '1|a "b"\nc|s\n')


@pytest.mark.fact("template-broken")
@pytest.mark.servers
def test_a_template_that_cannot_be_read_kills_its_task(
    cluster_with_consul: tuple[Cluster, str],
) -> None:
    cluster, _ = cluster_with_consul
    cluster.register(service_job("s", shell_task(LOOP, Templates=[template("{{ nonsense }")])))
    eventually(lambda: cluster.newest_alloc("s")["ClientStatus"] == "failed")
    killing = next(e for e in task_events(cluster.newest_alloc("s")) if e["Type"] == "Killing")
    assert killing["DisplayMessage"].startswith("Template failed: ")
    assert killing["Details"]["fails_task"] == "true"
