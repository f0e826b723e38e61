"""The double of Nomad: each test names a habit of the real one that callers must live with."""

from __future__ import annotations

import base64
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import nomad
import pytest
import requests
from nomad.api.exceptions import BaseNomadException, URLNotFoundNomadException

from nomad_double import TaskContext
from nomad_double.cron import CronError, parse_cron
from nomad_world import (
    World,
    batch,
    eventually,
    parent,
    service,
    shell,
    world,
)
from template_tests.support.toy_service import ROOT, SERVICE, clean_environ

Json = dict[str, Any]
DOUBLE = ROOT / "nomad_double"
SLEEP = shell("sleep 60")
TRUE = shell("true")


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with world(tmp_path_factory.mktemp("nomad")) as found:
        found.register(parent("free", TRUE))
        required = {"Payload": "required", "MetaRequired": ["must"], "MetaOptional": ["may"]}
        found.register(parent("strict", TRUE, **required))
        found.register(parent("mute", TRUE, Payload="forbidden"))
        found.register(parent("stopped", TRUE))
        found.ask("DELETE", "/v1/job/stopped")
        found.register(batch("plain", TRUE))
        hourly = {"Specs": ["0 * * * *"]}
        found.register(batch("hourly", TRUE, Periodic=hourly))
        found.register(batch("off", TRUE, Periodic={**hourly, "Enabled": False}))
        found.dead("plain")
        yield found


@pytest.fixture
def alone(tmp_path: Path) -> Iterator[World]:
    with world(tmp_path) as found:
        yield found


BIG = base64.b64encode(b"x" * 16_385).decode()
PAYLOAD = base64.b64encode(b"x").decode()


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "text"),
    [
        ("GET", "/v1/nothing", None, 404, "404 page not found\n"),
        ("PATCH", "/v1/jobs", None, 405, "Invalid method"),
        ("POST", "/v1/jobs", None, 400, "Request body is empty"),
        ("POST", "/v1/jobs", {}, 400, "Job must be specified"),
        ("POST", "/v1/jobs", {"Job": {}}, 400, "Job ID hasn't been provided"),
        ("POST", "/v1/job/a", {"Job": {"ID": "b"}}, 400, "Job ID does not match name"),
        ("POST", "/v1/job/a/plan", {"Job": {"ID": "b"}}, 400, "Job ID does not match"),
        ("POST", "/v1/jobs/parse", {"JobHCL": ""}, 400, "Job spec is empty"),
        ("GET", "/v1/job/none", None, 404, "job not found"),
        ("GET", "/v1/job/none/summary", None, 404, "job not found"),
        ("GET", "/v1/job/none/versions", None, 404, "job versions not found"),
        ("GET", "/v1/allocation/none", None, 404, "alloc not found"),
        ("GET", "/v1/evaluation/none", None, 404, "eval not found"),
        ("GET", "/v1/deployment/none", None, 404, "deployment not found"),
        ("GET", "/v1/namespace/none", None, 404, "Namespace not found"),
        ("POST", "/v1/allocation/none/stop", {}, 404, "allocation not found"),
        ("POST", "/v1/client/allocation/none/restart", {}, 404, 'Unknown allocation "none"'),
        ("POST", "/v1/deployment/fail/none", {}, 500, "deployment not found"),
        ("POST", "/v1/deployment/promote/none", {}, 400, "DeploymentID must be specified"),
        ("POST", "/v1/job/free/revert", {}, 400, "JobID must be specified"),
        (
            "POST",
            "/v1/job/free/revert",
            {"JobID": "free", "JobVersion": 0},
            500,
            "can't revert to current version",
        ),
        (
            "POST",
            "/v1/job/free/revert",
            {"JobID": "free", "JobVersion": 7},
            500,
            'job "free" in namespace "default" at version 7 not found',
        ),
        (
            "POST",
            "/v1/job/hourly/evaluate",
            {"JobID": "hourly"},
            500,
            "can't evaluate periodic job",
        ),
        (
            "POST",
            "/v1/job/free/evaluate",
            {"JobID": "free"},
            500,
            "can't evaluate parameterized job",
        ),
        ("POST", "/v1/job/none/periodic/force", {}, 404, "job not found"),
        ("POST", "/v1/job/plain/periodic/force", {}, 500, "can't force launch non-periodic job"),
        (
            "POST",
            "/v1/job/off/periodic/force",
            {},
            500,
            'force launch for job "off" failed: can\'t force run non-tracked job "off" (default)',
        ),
        ("POST", "/v1/job/none/dispatch", {}, 500, "parameterized job not found"),
        (
            "POST",
            "/v1/job/plain/dispatch",
            {},
            500,
            'Specified job "plain" is not a parameterized job',
        ),
        (
            "POST",
            "/v1/job/hourly/dispatch",
            {},
            500,
            'Specified job "hourly" is not a parameterized job',
        ),
        ("POST", "/v1/job/stopped/dispatch", {}, 500, 'Specified job "stopped" is stopped'),
        (
            "POST",
            "/v1/job/strict/dispatch",
            {},
            500,
            "Payload is not provided but required by parameterized job",
        ),
        (
            "POST",
            "/v1/job/mute/dispatch",
            {"Payload": PAYLOAD},
            500,
            "Payload provided but forbidden by parameterized job",
        ),
        (
            "POST",
            "/v1/job/free/dispatch",
            {"Payload": BIG},
            500,
            "Payload exceeds maximum size; 16385 > 16384",
        ),
        (
            "POST",
            "/v1/job/free/dispatch",
            {"Payload": "a#"},
            400,
            "illegal base64 data at input byte 1",
        ),
        (
            "POST",
            "/v1/job/strict/dispatch",
            {"Payload": PAYLOAD, "Meta": {"x": "1"}},
            500,
            "Dispatch request included unpermitted metadata keys: [x]",
        ),
        (
            "POST",
            "/v1/job/strict/dispatch",
            {"Payload": PAYLOAD},
            500,
            "Dispatch did not provide required meta keys: [must]",
        ),
        ("POST", "/v1/job/free/dispatch", {"JobID": "other"}, 400, "Job ID does not match"),
        (
            "POST",
            "/v1/job/free/dispatch",
            {"Priority": 101},
            500,
            "dispatch job priority must be between [1, 100]",
        ),
        ("POST", "/v1/system/gc", None, 405, "Invalid method"),
        ("GET", "/v1/jobs?index=x", None, 400, "Invalid index"),
        ("GET", "/v1/jobs?wait=x", None, 400, "Invalid wait time"),
        (
            "GET",
            "/v1/jobs?stale=x",
            None,
            400,
            "Expect `true` or `false` for `stale` query string parameter",
        ),
        (
            "GET",
            "/v1/jobs?per_page=x",
            None,
            400,
            "Expect a number for `per_page` query string parameter",
        ),
        (
            "GET",
            "/v1/event/stream?topic=Job:a:b",
            None,
            400,
            "Invalid topic query: Invalid key value pair for topic, topic: Job:a:b",
        ),
    ],
)
def test_errors_are_plain_texts_and_nearly_all_of_the_domain_are_500(
    shared: World, method: str, path: str, body: Any, status: int, text: str
) -> None:
    answer = shared.ask(method, path, body)
    assert (answer.status_code, answer.text) == (status, text)
    assert answer.headers["Content-Type"].startswith("text/plain")


def test_a_number_in_the_meta_of_a_dispatch_is_no_json_for_nomad(shared: World) -> None:
    answer = shared.ask("POST", "/v1/job/free/dispatch", {"Meta": {"a": 1}})
    assert answer.status_code == 400
    assert answer.text.startswith("json: cannot unmarshal number into Go struct field ")


@pytest.mark.parametrize(
    ("job", "text"),
    [
        ({"ID": "a b"}, "Job ID contains a space"),
        ({"Type": "x"}, 'Invalid job type: "x"'),
        ({"Priority": 200}, "job priority must be between [1, 100]"),
        ({"TaskGroups": []}, "Missing job task groups"),
        ({"Type": "service", "ParameterizedJob": {}}, "Parameterized job can only be used with"),
        ({"Type": "service", "Periodic": {"Specs": ["@daily"]}}, "Periodic can only be used with"),
        ({"Periodic": {"Specs": ["61 * * * *"]}}, 'Invalid cron spec "61 * * * *"'),
        ({"Periodic": {}}, "Must specify a spec"),
        ({"Periodic": {"Spec": "@daily", "Specs": ["@daily"]}}, "Only cron or crons may be used"),
        ({"Periodic": {"Specs": ["@daily"], "TimeZone": "Mars"}}, 'Invalid time zone "Mars"'),
        ({"ParameterizedJob": {"Payload": "x"}}, 'Unknown payload requirement: "x"'),
        (
            {"ParameterizedJob": {"MetaRequired": ["a"], "MetaOptional": ["a"]}},
            "exist in both: [a]",
        ),
        ({"Payload": PAYLOAD}, "job can't be submitted with a payload, only dispatched"),
        ({"Dispatched": True}, "job can't be submitted with 'Dispatched' set"),
    ],
)
def test_a_job_that_nomad_would_not_take_is_refused(shared: World, job: Json, text: str) -> None:
    answer = shared.ask("POST", "/v1/jobs", {"Job": {**batch("bad", TRUE), **job}})
    assert answer.status_code == 500
    assert text in answer.text


@pytest.mark.parametrize(
    ("task", "group", "text"),
    [
        ({"Name": ""}, {}, "Missing task name"),
        ({"Driver": ""}, {}, "Missing task driver"),
        ({"Vault": {"Role": "x"}}, {}, 'Vault "default" not enabled but used in the job'),
        ({"Resources": {"MemoryMB": 5}}, {}, "less than the minimum value of 10 MB; got 5"),
        (
            {"Resources": {"MemoryMB": 50, "MemoryMaxMB": 20}},
            {},
            "MemoryMaxMB value (20) should be larger",
        ),
        (
            {"Templates": [{"DestPath": "x"}]},
            {},
            "Must specify a source path or have an embedded template",
        ),
        ({"Templates": [{"EmbeddedTmpl": "x"}]}, {}, "Must specify a destination for the template"),
        (
            {"Templates": [{"EmbeddedTmpl": "x", "DestPath": "../../../x"}]},
            {},
            "template destination escapes",
        ),
        (
            {"Templates": [{"EmbeddedTmpl": "x", "DestPath": "x", "ChangeMode": "signal"}]},
            {},
            "Must specify signal value",
        ),
        (
            {
                "Templates": [
                    {
                        "EmbeddedTmpl": "x",
                        "DestPath": "x",
                        "ChangeMode": "signal",
                        "ChangeSignal": "SIGHUP",
                        "Envvars": True,
                    }
                ]
            },
            {},
            "cannot use signals with env var templates",
        ),
        ({}, {"Tasks": []}, "Missing tasks for task group"),
        ({}, {"RestartPolicy": {"Mode": "x"}}, 'Unsupported restart mode: "x"'),
        ({}, {"RestartPolicy": {"Attempts": 0, "Mode": "delay"}}, "is ambiguous"),
        (
            {},
            {"ReschedulePolicy": {"Attempts": 1, "Delay": 1}},
            "Delay cannot be less than 5s (got 1ns)",
        ),
        (
            {},
            {"EphemeralDisk": {"SizeMB": 100}},
            "log storage (100 MB) must be less than requested disk capacity (100 MB)",
        ),
        ({}, {"Services": [{"Name": "a_b"}]}, "Service name must be valid per RFC 1123"),
        (
            {},
            {"Services": [{"Name": "a", "PortLabel": "x"}]},
            'port label "x" referenced by services a does not exist',
        ),
    ],
)
def test_what_is_wrong_with_a_group_or_task_is_said_where_it_is(
    shared: World, task: Json, group: Json, text: str
) -> None:
    job = batch("bad", {**TRUE, **task}, group)
    answer = shared.ask("POST", "/v1/jobs", {"Job": job})
    assert answer.status_code == 500
    assert "Task group g validation failed: 1 error occurred:\n\t* " in answer.text
    assert text in answer.text
    found = shared.post("/v1/validate/job", {"Job": job})
    assert text in found["Error"]


@pytest.mark.parametrize(
    ("update", "text"),
    [
        ({"AutoPromote": True}, "Auto Promote requires a Canary count greater than zero"),
        (
            {"MinHealthyTime": 600 * 10**9},
            "Minimum healthy time must be less than healthy deadline",
        ),
        (
            {"ProgressDeadline": 10**9},
            "Healthy deadline must be less than progress deadline: 4s > 1s",
        ),
        ({"HealthCheck": "x"}, 'Invalid health check given: "x"'),
    ],
)
def test_an_update_block_that_cannot_work_is_refused(
    shared: World, update: Json, text: str
) -> None:
    answer = shared.ask("POST", "/v1/jobs", {"Job": service("bad", TRUE, **update)})
    assert answer.status_code == 500
    assert text in answer.text


def test_registering_makes_versions_and_an_unchanged_job_makes_none(alone: World) -> None:
    job = batch("j", SLEEP)
    first = alone.register(job)
    assert alone.get("/v1/job/j")["Version"] == 0
    eventually(lambda: alone.get("/v1/job/j")["Status"] == "running")
    stored = alone.get("/v1/job/j")
    assert stored["JobModifyIndex"] == first["JobModifyIndex"] < stored["ModifyIndex"]
    again = alone.register(job)
    assert again["EvalID"]
    # Nomad's oddity: what is unchanged answers with the index that changes with the status.
    assert again["JobModifyIndex"] == stored["ModifyIndex"]
    assert alone.get("/v1/job/j")["Version"] == 0
    alone.register({**job, "Meta": {"a": "b"}})
    assert [v["Version"] for v in alone.get("/v1/job/j/versions")["Versions"]] == [1, 0]


def test_a_job_in_short_and_its_canonical_form_are_the_same_job(alone: World) -> None:
    task = 'task "t" {\ndriver = "exec"\nconfig {\ncommand = "true"\n}\n}\n'
    hcl = f'job "j" {{\ntype = "batch"\ngroup "g" {{\n{task}}}\n}}\n'
    short = alone.post("/v1/jobs/parse", {"JobHCL": hcl})
    full = alone.post("/v1/jobs/parse", {"JobHCL": hcl, "Canonicalize": True})
    assert short["TaskGroups"][0]["Count"] is None
    assert full["TaskGroups"][0]["RestartPolicy"]["Attempts"] == 3
    alone.register(short)
    alone.register(full)
    assert alone.get("/v1/job/j")["Version"] == 0


def test_check_and_set_names_the_index_that_is_in_the_way(alone: World) -> None:
    def enforce(index: int, **meta: str) -> tuple[int, str]:
        body = {"Job": batch("j", TRUE, Meta=meta), "EnforceIndex": True, "JobModifyIndex": index}
        answer = alone.ask("POST", "/v1/jobs", body)
        return answer.status_code, answer.text

    start = "Enforcing job modify index"
    assert enforce(5) == (500, f"{start} 5: job does not exist")
    assert enforce(0)[0] == 200
    assert enforce(0) == (500, f"{start} 0: job already exists")
    index = alone.get("/v1/job/j")["JobModifyIndex"]
    expected = f"{start} 5: job exists with conflicting job modify index: {index}"
    assert enforce(5) == (500, expected)
    assert enforce(index, a="b")[0] == 200


@pytest.mark.parametrize(
    ("before", "after", "text"),
    [
        (batch("j", TRUE), service("j", SLEEP), 'cannot update job from type "batch" to "service"'),
        (
            parent("j", TRUE),
            batch("j", TRUE),
            "cannot update parameterized job to being non-parameterized",
        ),
        (
            batch("j", TRUE),
            parent("j", TRUE),
            "cannot update non-parameterized job to being parameterized",
        ),
        (
            batch("j", TRUE),
            batch("j", TRUE, Periodic={"Specs": ["@daily"]}),
            "cannot update non-periodic job to being periodic",
        ),
    ],
)
def test_a_job_cannot_become_another_kind_of_job(
    alone: World, before: Json, after: Json, text: str
) -> None:
    alone.register(before)
    answer = alone.ask("POST", "/v1/jobs", {"Job": after})
    assert (answer.status_code, answer.text) == (500, text)


def test_a_dispatched_child_cannot_be_changed_and_the_reason_misleads(alone: World) -> None:
    alone.register(parent("p", SLEEP))
    child = alone.get(f"/v1/job/{alone.dispatch('p')['DispatchedJobID']}")
    answer = alone.ask("POST", "/v1/jobs", {"Job": {**child, "Meta": {"a": "b"}}})
    assert answer.text == "cannot update non-parameterized job to being parameterized"


def test_parents_get_no_evaluation_and_are_running(shared: World) -> None:
    jobs: list[Json] = [
        parent("free", TRUE),
        batch("hourly", TRUE, Periodic={"Specs": ["0 * * * *"]}),
    ]
    for job in jobs:
        answer = shared.register(job)
        assert (answer["EvalID"], answer["EvalCreateIndex"]) == ("", 0)
        assert shared.get(f"/v1/job/{job['ID']}")["Status"] == "running"


def test_an_unknown_namespace_fails_only_at_registering(shared: World) -> None:
    answer = shared.ask("POST", "/v1/jobs?namespace=none", {"Job": batch("j", TRUE)})
    text = 'job "j" is in nonexistent namespace "none"'
    assert (answer.status_code, answer.text) == (500, text)
    assert shared.get("/v1/jobs", namespace="none") == []
    shared.post("/v1/namespace/there", {"Name": "there"})
    shared.post("/v1/jobs", {"Job": batch("j", TRUE)}, namespace="there")
    assert [job["Namespace"] for job in shared.get("/v1/jobs", namespace="*", prefix="j")] == [
        "there"
    ]


def test_memory_max_without_oversubscription_is_a_warning_and_no_error(tmp_path: Path) -> None:
    job = batch("j", {**TRUE, "Resources": {"MemoryMB": 50, "MemoryMaxMB": 90}})
    with world(tmp_path, oversubscription=False) as there:
        warnings = there.register(job)["Warnings"]
        assert warnings.startswith("1 warning:\n\n* Memory oversubscription is not enabled; Task ")
        config = there.get("/v1/operator/scheduler/configuration")["SchedulerConfig"]
        assert config["MemoryOversubscriptionEnabled"] is False
        there.post("/v1/operator/scheduler/configuration", {"MemoryOversubscriptionEnabled": True})
        assert there.register(job)["Warnings"] == ""


def test_a_plan_changes_nothing_and_says_what_would_change(alone: World) -> None:
    plan: Json = {"Job": service("s", SLEEP, {"Count": 2}), "Diff": True}
    found = alone.post("/v1/job/s/plan", plan)
    assert (found["Diff"]["Type"], found["JobModifyIndex"]) == ("Added", 0)
    assert found["Annotations"]["DesiredTGUpdates"]["g"]["Place"] == 2
    assert found["NextPeriodicLaunch"] == "0001-01-01T00:00:00Z"
    assert alone.ask("GET", "/v1/job/s").status_code == 404
    index = alone.register(plan["Job"])["JobModifyIndex"]
    eventually(lambda: alone.deployment("s")["Status"] == "successful")
    found = alone.post("/v1/job/s/plan", plan)
    assert (found["Diff"]["Type"], found["JobModifyIndex"]) == ("None", index)
    changed = service("s", {**SLEEP, "Env": {"A": "1"}}, {"Count": 3})
    diff = alone.post("/v1/job/s/plan", {"Job": changed, "Diff": True})["Diff"]
    (group,) = diff["TaskGroups"]
    assert (diff["Type"], group["Type"], group["Tasks"][0]["Type"]) == ("Edited",) * 3
    count = {"Type": "Edited", "Name": "Count", "Old": "2", "New": "3", "Annotations": None}
    env = {"Type": "Added", "Name": "Env[A]", "Old": "", "New": "1", "Annotations": None}
    assert group["Fields"] == [count]
    assert group["Tasks"][0]["Fields"] == [env]
    assert group["Tasks"][0]["Annotations"] == ["forces create/destroy update"]


def test_a_plan_tells_when_a_periodic_job_starts_next(shared: World) -> None:
    job = batch("hourly", TRUE, Periodic={"Specs": ["0 * * * *"]})
    found = shared.post("/v1/job/hourly/plan", {"Job": job, "Diff": True})
    due = datetime.now(UTC).replace(minute=0, second=0, microsecond=0) + timedelta(hours=1)
    assert found["NextPeriodicLaunch"] == due.strftime("%Y-%m-%dT%H:%M:%SZ")


def test_deleting_a_job_that_is_not_there_is_no_error(shared: World) -> None:
    answer = shared.ask("DELETE", "/v1/job/none")
    assert (answer.status_code, answer.json()["EvalID"]) == (200, "")


def test_a_stopped_job_stays_with_a_new_version_and_a_purged_one_is_gone(alone: World) -> None:
    alone.register(batch("j", SLEEP))
    eventually(lambda: alone.get("/v1/job/j/allocations"))
    alone.ask("DELETE", "/v1/job/j")
    alloc = alone.dead("j")
    assert alloc["DesiredStatus"] == "stop"
    job = alone.get("/v1/job/j")
    assert (job["Stop"], job["Version"]) == (True, 1)
    alone.ask("DELETE", "/v1/job/j?purge=true")
    assert alone.ask("GET", "/v1/job/j").status_code == 404


def test_a_child_is_a_copy_of_its_parent_and_outlives_its_stop(alone: World) -> None:
    alone.register(parent("p", SLEEP, MetaOptional=["a"]))
    answer = alone.dispatch("p", a="1")
    child = alone.get(f"/v1/job/{answer['DispatchedJobID']}")
    assert re.fullmatch(r"p/dispatch-\d{10}-[0-9a-f]{8}", child["ID"])
    assert (child["Name"], child["ParentID"], child["Dispatched"]) == (child["ID"], "p", True)
    assert child["Meta"] == {"a": "1"}
    assert child["CreateIndex"] == answer["JobCreateIndex"]
    named = alone.post("/v1/job/p/dispatch", {"IdPrefixTemplate": "mine"})["DispatchedJobID"]
    assert re.fullmatch(r"p/dispatch-mine-\d{10}-[0-9a-f]{8}", named)
    alone.register(parent("p", {**SLEEP, "Env": {"NEW": "1"}}, MetaOptional=["a"]))
    alone.ask("DELETE", "/v1/job/p")
    now = alone.get(f"/v1/job/{child['ID']}")
    assert now["TaskGroups"][0]["Tasks"][0]["Env"] is None
    assert not now["Stop"]


def test_ids_with_slashes_may_be_quoted_or_not(shared: World) -> None:
    child = shared.dispatch("free")["DispatchedJobID"]
    quoted = child.replace("/", "%2F")
    for name in (child, quoted):
        assert shared.get(f"/v1/job/{name}")["ID"] == child
        assert shared.get(f"/v1/job/{name}/summary")["JobID"] == child


def test_a_token_in_the_query_makes_one_child_until_the_child_is_collected(alone: World) -> None:
    alone.register(parent("p", TRUE, MetaOptional=["a"]))
    first = alone.dispatch("p", token="one", a="1")
    assert first["EvalID"]
    again = alone.dispatch("p", token="one", a="2")
    assert again["DispatchedJobID"] == first["DispatchedJobID"]
    assert (again["EvalID"], again["EvalCreateIndex"]) == ("", 0)
    alone.dead(first["DispatchedJobID"])
    assert alone.dispatch("p", token="one")["DispatchedJobID"] == first["DispatchedJobID"]
    assert alone.ask("PUT", "/v1/system/gc").text == ""
    assert alone.ask("GET", f"/v1/job/{first['DispatchedJobID']}").status_code == 404
    assert alone.dispatch("p", token="one")["DispatchedJobID"] != first["DispatchedJobID"]


def test_python_nomad_puts_the_token_where_it_is_ignored(shared: World) -> None:
    client = nomad.Nomad(address=shared.double.address)
    made = [client.job.dispatch_job("free", idempotency_token="t") for _ in range(2)]
    assert made[0]["DispatchedJobID"] != made[1]["DispatchedJobID"]


@pytest.mark.parametrize("race", [True, False])
def test_before_1_11_2_two_at_once_with_one_token_make_two_children(
    alone: World, race: bool
) -> None:
    alone.register(parent("p", TRUE))
    alone.double.faults.idempotency_race = race
    url = f"{alone.double.address}/v1/job/p/dispatch?idempotency_token=t"
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda _: requests.post(url, json={}, timeout=10).json(), range(4)))
    names = {answer["DispatchedJobID"] for answer in answers}
    assert len(names) == 1 if not race else len(names) > 1


def test_python_nomad_meets_nomads_errors(shared: World) -> None:
    client = nomad.Nomad(address=shared.double.address)
    with pytest.raises(URLNotFoundNomadException):
        client.job.get_job("none")
    with pytest.raises(BaseNomadException) as caught:
        client.job.dispatch_job("none")
    assert caught.value.nomad_resp.text == "parameterized job not found"
    assert client.agent.get_agent()["config"]["Version"]["Version"] == "1.10.5"
    assert client.status.leader.get_leader() == "127.0.0.1:4647"
    assert [node["Status"] for node in client.nodes.get_nodes()] == ["ready"]


def test_a_list_is_sorted_filtered_and_paged(alone: World) -> None:
    for name in ("b", "a/1", "a/2", "a"):
        alone.register(batch(name, SLEEP if name == "b" else TRUE, Meta={"k": name}))
    for name in ("a", "a/1", "a/2"):
        alone.dead(name)
    eventually(lambda: alone.get("/v1/job/b")["Status"] == "running")

    def ids(**parameters: Any) -> list[str]:
        return [job["ID"] for job in alone.get("/v1/jobs", **parameters)]

    assert ids() == ["a", "a/1", "a/2", "b"]
    assert ids(reverse="true") == ["b", "a/2", "a/1", "a"]
    assert ids(prefix="a/") == ["a/1", "a/2"]
    assert ids(filter='Status != "dead"') == ["b"]
    assert ids(filter='Meta["k"] == "a/1" or Meta.k == `b`') == ["a/1", "b"]
    assert ids(filter='not (ID == "a") and Status == dead') == ["a/1", "a/2"]
    assert ids(filter='"dc1" in Datacenters or ParentID is not empty') == []
    assert ids(filter='"*" in Datacenters', prefix="b") == ["b"]
    assert ids(filter='ID matches "^a/[2-9]$"') == ["a/2"]
    assert ids(filter='ID contains "/" and Meta["none"] != "x"') == ["a/1", "a/2"]
    page = alone.ask("GET", "/v1/jobs?per_page=3")
    assert page.headers["X-Nomad-NextToken"] == "default.b"
    assert ids(next_token="default.b") == ["b"]
    assert "Meta" not in alone.get("/v1/jobs")[0]
    assert alone.get("/v1/jobs", meta="true")[0]["Meta"] == {"k": "a"}


@pytest.mark.parametrize("expression", ["Status ==", "Status = dead", "(ID == a", "Nothing == 1"])
def test_a_filter_that_cannot_be_read_is_400(shared: World, expression: str) -> None:
    answer = shared.ask("GET", "/v1/jobs", params={"filter": expression})
    assert answer.status_code == 400
    assert answer.text.startswith("failed to read result page: ")


def test_a_waiting_list_wakes_on_any_change_and_else_at_its_time(alone: World) -> None:
    alone.register(parent("p", TRUE))
    index = int(alone.ask("GET", "/v1/jobs").headers["X-Nomad-Index"])
    begin = time.monotonic()
    answer = alone.ask("GET", f"/v1/jobs?index={index}&wait=300ms")
    assert 0.3 <= time.monotonic() - begin < 2
    assert int(answer.headers["X-Nomad-Index"]) == index
    with ThreadPoolExecutor(1) as pool:
        url = f"{alone.double.address}/v1/jobs?prefix=other&index={index}&wait=60s"
        waiting = pool.submit(requests.get, url, timeout=70)
        alone.dispatch("p")
        answer = waiting.result(20)
    assert answer.json() == []
    assert int(answer.headers["X-Nomad-Index"]) > index


def test_one_may_wait_for_a_job_that_is_not_there_yet(alone: World) -> None:
    alone.register(parent("p", TRUE))
    index = int(alone.ask("GET", "/v1/jobs").headers["X-Nomad-Index"])
    with ThreadPoolExecutor(1) as pool:
        url = f"{alone.double.address}/v1/job/new?index={index}&wait=60s"
        waiting = pool.submit(requests.get, url, timeout=70)
        alone.register(parent("new", TRUE))
        assert waiting.result(20).json()["ID"] == "new"


def test_the_index_may_go_backwards_and_a_wait_may_end_without_a_change(alone: World) -> None:
    for name in ("a", "b", "c", "d"):
        alone.register(parent(name, TRUE))
    index = int(alone.ask("GET", "/v1/jobs").headers["X-Nomad-Index"])
    alone.double.faults.spurious_wakeups = True
    answer = alone.ask("GET", f"/v1/jobs?index={index}&wait=60s")
    assert int(answer.headers["X-Nomad-Index"]) == index
    alone.double.faults.spurious_wakeups = False
    alone.double.faults.reset_index()
    assert int(alone.ask("GET", "/v1/jobs").headers["X-Nomad-Index"]) < index


def test_without_room_a_job_is_taken_and_waits_with_nomads_reason(tmp_path: Path) -> None:
    with world(tmp_path, memory_mb=100) as there:
        there.register(batch("first", SLEEP))
        eventually(lambda: there.get("/v1/job/first")["Status"] == "running")
        there.register(batch("second", {**TRUE, "Resources": {"CPU": 10, "MemoryMB": 80}}))
        eventually(lambda: len(there.get("/v1/job/second/evaluations")) == 2)
        done, blocked = there.get("/v1/job/second/evaluations")
        assert (done["Status"], done["BlockedEval"]) == ("complete", blocked["ID"])
        assert done["FailedTGAllocs"]["g"]["DimensionExhausted"] == {"memory": 1}
        assert (blocked["Status"], blocked["TriggeredBy"]) == ("blocked", "queued-allocs")
        assert blocked["StatusDescription"] == "created to place remaining allocations"
        assert there.get("/v1/job/second")["Status"] == "pending"
        assert there.get("/v1/job/second/summary")["Summary"]["g"]["Queued"] == 1
        there.ask("DELETE", "/v1/job/first")
        assert there.dead("second")["ClientStatus"] == "complete"
        assert there.get("/v1/job/second/summary")["Summary"]["g"]["Queued"] == 0


@pytest.mark.parametrize(
    ("job", "reason"),
    [
        (batch("j", {**TRUE, "Driver": "java"}), {"missing drivers": 1}),
        (
            batch(
                "j",
                TRUE,
                Constraints=[{"LTarget": "${attr.kernel.name}", "RTarget": "bsd", "Operand": "="}],
            ),
            {"${attr.kernel.name} = bsd": 1},
        ),
        (batch("j", TRUE, Datacenters=["mars"]), None),
    ],
)
def test_a_job_that_no_node_may_run_is_taken_all_the_same(
    alone: World, job: Json, reason: Json | None
) -> None:
    alone.register(job)
    eventually(lambda: alone.get("/v1/job/j/evaluations"))
    metric = eventually(lambda: alone.get("/v1/job/j/evaluations")[0]["FailedTGAllocs"])["g"]
    assert metric["ConstraintFiltered"] == reason
    assert metric["NodesEvaluated"] == (0 if reason is None else 1)


def test_a_constraint_that_holds_is_no_hindrance(alone: World) -> None:
    rules = [
        {"LTarget": "${attr.nomad.version}", "RTarget": ">= 1.6, < 3", "Operand": "version"},
        {"LTarget": "${attr.cpu.numcores}", "RTarget": "0", "Operand": ">"},
        {"LTarget": "${attr.os.signals}", "RTarget": "SIGHUP,SIGTERM", "Operand": "set_contains"},
        {"LTarget": "${node.datacenter}", "RTarget": "^dc", "Operand": "regexp"},
    ]
    alone.register(batch("j", TRUE, Constraints=rules))
    assert alone.dead("j")["ClientStatus"] == "complete"


def test_a_summary_counts_children_even_when_they_are_collected(alone: World) -> None:
    alone.register(parent("p", TRUE))
    children = [alone.dispatch("p")["DispatchedJobID"] for _ in range(3)]
    for child in children:
        alone.dead(child)
    alone.double.collect_garbage()
    assert alone.get("/v1/jobs", prefix="p/dispatch-") == []
    assert alone.get("/v1/job/p/summary")["Children"] == {"Pending": 0, "Running": 0, "Dead": 3}


def test_garbage_is_what_is_dead_and_takes_its_logs_along(alone: World) -> None:
    alone.register(batch("done", shell("echo words")))
    alone.register(batch("runs", SLEEP))
    alone.register(parent("p", TRUE))
    alloc = alone.dead("done")
    assert alone.log(alloc) == "words\n"
    alone.double.collect_garbage()
    assert [job["ID"] for job in alone.get("/v1/jobs")] == ["p", "runs"]
    answer = alone.ask("GET", f"/v1/client/fs/logs/{alloc['ID']}?task=t&type=stdout")
    text = f'Unknown allocation "{alloc["ID"]}"'
    assert (answer.status_code, answer.text) == (404, text)


def test_force_ignores_overlap_and_its_child_is_found_by_the_evaluation(alone: World) -> None:
    periodic = {"Specs": ["0 0 1 1 *"], "ProhibitOverlap": True}
    alone.register(batch("p", SLEEP, Periodic=periodic, Meta={"a": "b"}))
    answer = alone.post("/v1/job/p/periodic/force")
    child = alone.get(f"/v1/evaluation/{answer['EvalID']}")["JobID"]
    assert re.fullmatch(r"p/periodic-\d{10}", child)
    job = alone.get(f"/v1/job/{child}")
    assert (job["ParentID"], job["Periodic"], job["Meta"]) == ("p", None, {"a": "b"})
    assert alone.ask("POST", "/v1/job/p/periodic/force").status_code == 200


def test_the_clock_launches_what_is_due_unless_it_overlaps(alone: World) -> None:
    every = {"Specs": ["* * * * *"]}
    alone.register(batch("often", SLEEP, Periodic=every))
    alone.register(batch("once", SLEEP, Periodic={**every, "ProhibitOverlap": True}))
    begin = datetime(2030, 1, 1, tzinfo=UTC)
    clock = alone.double._periodic
    for minute in (1, 2):
        at = begin + timedelta(minutes=minute)
        clock.launch_due(at - timedelta(seconds=1), at)
    stamps = [int((begin + timedelta(minutes=m)).timestamp()) for m in (1, 2)]
    assert [j["ID"] for j in alone.get("/v1/jobs", prefix="often/")] == [
        f"often/periodic-{stamp}" for stamp in stamps
    ]
    assert [j["ID"] for j in alone.get("/v1/jobs", prefix="once/")] == [
        f"once/periodic-{stamps[0]}"
    ]


@pytest.mark.parametrize(
    ("spec", "after", "expected"),
    [
        ("5 * * * *", "2026-01-01T00:05", "2026-01-01T01:05"),
        ("5 */3 * * *", "2026-01-01T03:05", "2026-01-01T06:05"),
        ("0 0 29 2 *", "2026-01-01T00:00", "2028-02-29T00:00"),
        ("0 0 * * mon", "2026-01-01T00:00", "2026-01-05T00:00"),
        ("0 0 13 * fri", "2026-01-01T00:00", "2026-01-02T00:00"),
        ("@monthly", "2026-01-31T12:00", "2026-02-01T00:00"),
        ("0,30 9-10/1 * jan,dec 1-5", "2026-01-02T10:30", "2026-01-05T09:00"),
    ],
)
def test_a_cron_spec_names_the_next_moment(spec: str, after: str, expected: str) -> None:
    begin = datetime.fromisoformat(f"{after}+00:00")
    assert parse_cron(spec).next(begin) == datetime.fromisoformat(f"{expected}+00:00")


@pytest.mark.parametrize(
    "spec", ["", "* * * *", "60 * * * *", "* * * * * *", "a * * * *", "*/0 * * * *"]
)
def test_a_cron_spec_that_says_nothing_is_refused(spec: str) -> None:
    with pytest.raises(CronError):
        parse_cron(spec)


def test_the_event_stream_begins_with_a_heartbeat_and_replays_what_it_kept(alone: World) -> None:
    alone.register(parent("p", TRUE))
    url = f"{alone.double.address}/v1/event/stream?topic=Job:p&topic=Allocation"
    with requests.get(url, stream=True, timeout=20) as answer:
        lines = answer.iter_lines()
        assert json.loads(next(lines)) == {}
        (event,) = json.loads(next(lines))["Events"]
        assert (event["Topic"], event["Type"], event["Key"]) == ("Job", "JobRegistered", "p")
        assert event["Payload"]["Job"]["ID"] == "p"
        child = alone.dispatch("p")["DispatchedJobID"]
        line = json.loads(next(lines))
        event = line["Events"][0]
        assert (event["Topic"], event["FilterKeys"]) == ("Allocation", [child])
        assert line["Index"] == event["Index"]
        assert "Job" not in event["Payload"]["Allocation"]


TOKENS = {
    "all": ["management"],
    "reader": ["read-job", "list-jobs"],
    "doer": ["dispatch-job", "read-job"],
}


@pytest.mark.parametrize(
    ("token", "method", "path", "status"),
    [
        ("", "GET", "/v1/jobs", 403),
        ("unknown", "GET", "/v1/jobs", 403),
        ("reader", "GET", "/v1/jobs", 200),
        ("reader", "POST", "/v1/job/p/dispatch", 403),
        ("doer", "POST", "/v1/job/p/dispatch", 200),
        ("doer", "GET", "/v1/jobs", 403),
        ("doer", "GET", "/v1/job/p", 200),
        ("reader", "POST", "/v1/jobs/parse", 403),
        ("reader", "GET", "/v1/agent/self", 403),
        ("doer", "PUT", "/v1/system/gc", 403),
        ("all", "PUT", "/v1/system/gc", 200),
        ("reader", "GET", "/v1/event/stream", 403),
        ("all", "GET", "/v1/acl/token/self", 200),
    ],
)
def test_a_token_may_do_what_its_policy_says(
    tmp_path: Path, token: str, method: str, path: str, status: int
) -> None:
    with world(tmp_path, acl=TOKENS) as there:
        there.session.headers["Authorization"] = "Bearer all"
        there.register(parent("p", TRUE))
        answer = there.ask(method, path, {}, headers={"X-Nomad-Token": token or "none"})
        assert answer.status_code == status
        if status == 403:
            assert answer.text == "Permission denied"


def test_an_expired_token_is_refused_and_by_the_parser_as_a_failure(tmp_path: Path) -> None:
    with world(tmp_path, acl=TOKENS) as there:
        there.session.headers["X-Nomad-Token"] = "all"
        assert there.get("/v1/jobs") == []
        there.double.faults.expire_token("all")
        answer = there.ask("GET", "/v1/jobs")
        assert (answer.status_code, answer.text) == (403, "Permission denied")
        answer = there.ask("POST", "/v1/jobs/parse", {"JobHCL": "x"})
        assert answer.status_code == 500
        assert answer.text.endswith("ACL token expired")


def test_a_server_that_is_not_the_leader_wraps_its_errors(tmp_path: Path) -> None:
    with world(tmp_path, wrapped_errors=True) as there:
        answer = there.ask("POST", "/v1/job/none/dispatch", {})
        text = "rpc error: parameterized job not found"
        assert (answer.status_code, answer.text) == (500, text)
        assert there.ask("GET", "/v1/job/none").text == "job not found"


def test_while_it_is_away_connections_are_refused_and_it_comes_back_as_it_was(
    alone: World,
) -> None:
    alone.register(parent("p", TRUE))
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(requests.get, f"{alone.double.address}/v1/jobs?index=999", timeout=60)
        eventually(lambda: alone.double.requests["GET /v1/jobs"])
        alone.double.faults.away()
        assert isinstance(waiting.exception(20), requests.ConnectionError)
    with pytest.raises(requests.ConnectionError):
        requests.get(f"{alone.double.address}/v1/jobs", timeout=5)
    alone.double.faults.back()
    assert [job["ID"] for job in alone.get("/v1/jobs")] == ["p"]


def test_without_a_leader_all_but_the_agent_fails(alone: World) -> None:
    alone.double.faults.no_leader = True
    answer = alone.ask("GET", "/v1/jobs")
    assert (answer.status_code, answer.text) == (500, "No cluster leader")
    assert alone.ask("GET", "/v1/agent/self").status_code == 200


def test_a_dropped_answer_is_of_a_request_that_was_acted_on(alone: World) -> None:
    alone.register(parent("p", TRUE))
    alone.double.faults.drop_responses("POST /v1/job/:id/dispatch", 1)
    with pytest.raises(requests.ConnectionError):
        alone.dispatch("p")
    assert len(alone.get("/v1/jobs", prefix="p/")) == 1
    alone.dispatch("p")
    assert alone.double.requests["POST /v1/job/:id/dispatch"] == 2


def test_an_answer_may_be_planned(alone: World) -> None:
    alone.double.faults.answer("GET /v1/jobs", 429, "slow down", 1)
    answer = alone.ask("GET", "/v1/jobs")
    assert (answer.status_code, answer.text) == (429, "slow down")
    assert alone.get("/v1/jobs") == []


def test_a_blocked_placement_ends_when_the_fault_ends(alone: World) -> None:
    alone.double.faults.block_placement("cpu")
    alone.register(batch("j", TRUE))
    eventually(lambda: len(alone.get("/v1/job/j/evaluations")) == 2)
    metric = alone.get("/v1/job/j/evaluations")[0]["FailedTGAllocs"]["g"]
    assert metric["DimensionExhausted"] == {"cpu": 1}
    alone.double.faults.block_placement("")
    assert alone.dead("j")["ClientStatus"] == "complete"


def test_a_lost_node_loses_its_allocations_and_they_are_placed_anew(alone: World) -> None:
    alone.register(batch("j", SLEEP))
    eventually(lambda: alone.get("/v1/job/j/allocations"))
    alone.double.faults.lose_node()
    eventually(lambda: len(alone.get("/v1/job/j/allocations")) == 2)
    lost, new = sorted(alone.get("/v1/job/j/allocations"), key=lambda a: a["CreateIndex"])
    assert (lost["ClientStatus"], lost["NextAllocation"]) == ("lost", new["ID"])
    assert lost["NodeID"] != new["NodeID"]


def test_a_call_may_stand_for_the_processes(tmp_path: Path) -> None:
    seen: list[TaskContext] = []

    def run(context: TaskContext) -> int:
        seen.append(context)
        if context.meta["a"] == "2":
            raise MemoryError
        return int(context.meta["a"])

    with world(tmp_path, run=run) as there:
        there.register(parent("p", {**TRUE, "Driver": "exec"}, MetaOptional=["a"]))
        codes = {}
        for code in ("0", "1", "2"):
            child = there.dispatch("p", b"words", a=code)["DispatchedJobID"]
            states = there.dead(child)["TaskStates"]["t"]["Events"]
            codes[code] = next(e["Details"] for e in states if e["Type"] == "Terminated")
    assert codes["0"] == {"exit_code": "0", "signal": "0", "oom_killed": "false"}
    assert codes["1"]["exit_code"] == "1"
    assert (codes["2"]["exit_code"], codes["2"]["oom_killed"]) == ("137", "true")
    assert seen[0].payload == b"words"
    assert seen[0].environment["NOMAD_META_a"] == "0"


def test_the_program_serves_until_it_is_told_to_end(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "nomad_double", "--folder", str(tmp_path)]
    sources = os.pathsep.join(str(folder) for folder in (DOUBLE / "src", SERVICE / "src"))
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, env={**clean_environ(), "PYTHONPATH": sources}
    ) as process:
        assert process.stdout
        address = process.stdout.readline().strip()
        script = f"echo $$ > {tmp_path}/pid; exec sleep 300"
        requests.post(f"{address}/v1/jobs", json={"Job": batch("j", shell(script))}, timeout=10)
        pid = eventually(lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text())
        process.terminate()
        assert process.wait(20) == 0
    assert not Path(f"/proc/{pid.strip()}/cmdline").exists()
