"""Registering, planning, changing and stopping jobs, and what is refused."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest

from nomad_cluster import (
    SLEEP,
    TRUE,
    Cluster,
    Json,
    batch_job,
    eventually,
    parameterized_job,
    running_cluster,
    service_job,
)

PAYLOAD = base64.b64encode(b"x").decode()


@pytest.mark.fact("job-invalid")
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
def test_a_job_that_nomad_would_not_take_is_refused(
    cluster_with_jobs: Cluster, job: Json, text: str
) -> None:
    answer = cluster_with_jobs.request(
        "POST", "/v1/jobs", {"Job": {**batch_job("bad", TRUE), **job}}
    )
    assert answer.status_code == 500
    assert text in answer.text


@pytest.mark.fact("group-invalid")
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
    cluster_with_jobs: Cluster, task: Json, group: Json, text: str
) -> None:
    job = batch_job("bad", {**TRUE, **task}, group)
    answer = cluster_with_jobs.request("POST", "/v1/jobs", {"Job": job})
    assert answer.status_code == 500
    assert "Task group g validation failed: 1 error occurred:\n\t* " in answer.text
    assert text in answer.text
    found = cluster_with_jobs.post("/v1/validate/job", {"Job": job})
    assert text in found["Error"]


@pytest.mark.fact("update-invalid")
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
    cluster_with_jobs: Cluster, update: Json, text: str
) -> None:
    answer = cluster_with_jobs.request(
        "POST", "/v1/jobs", {"Job": service_job("bad", TRUE, **update)}
    )
    assert answer.status_code == 500
    assert text in answer.text


@pytest.mark.fact("job-version")
def test_registering_makes_versions_and_an_unchanged_job_makes_none(cluster: Cluster) -> None:
    job = batch_job("j", SLEEP)
    first = cluster.register(job)
    assert cluster.get("/v1/job/j")["Version"] == 0
    eventually(lambda: cluster.get("/v1/job/j")["Status"] == "running")
    stored = cluster.get("/v1/job/j")
    assert stored["JobModifyIndex"] == first["JobModifyIndex"] < stored["ModifyIndex"]
    again = cluster.register(job)
    assert again["EvalID"]
    # Nomad's oddity: what is unchanged answers with the index that changes with the status.
    assert again["JobModifyIndex"] == stored["ModifyIndex"]
    assert cluster.get("/v1/job/j")["Version"] == 0
    cluster.register({**job, "Meta": {"a": "b"}})
    assert [v["Version"] for v in cluster.get("/v1/job/j/versions")["Versions"]] == [1, 0]


@pytest.mark.fact("parse-form", "job-version")
def test_a_job_in_short_and_its_canonical_form_are_the_same_job(cluster: Cluster) -> None:
    task = 'task "t" {\ndriver = "exec"\nconfig {\ncommand = "true"\n}\n}\n'
    hcl = f'job "j" {{\ntype = "batch"\ngroup "g" {{\n{task}}}\n}}\n'
    short = cluster.post("/v1/jobs/parse", {"JobHCL": hcl})
    full = cluster.post("/v1/jobs/parse", {"JobHCL": hcl, "Canonicalize": True})
    assert short["TaskGroups"][0]["Count"] is None
    assert full["TaskGroups"][0]["RestartPolicy"]["Attempts"] == 3
    cluster.register(short)
    cluster.register(full)
    assert cluster.get("/v1/job/j")["Version"] == 0


@pytest.mark.fact("check-and-set")
def test_check_and_set_names_the_index_that_is_in_the_way(cluster: Cluster) -> None:
    def enforce(index: int, **meta: str) -> tuple[int, str]:
        body = {
            "Job": batch_job("j", TRUE, Meta=meta),
            "EnforceIndex": True,
            "JobModifyIndex": index,
        }
        answer = cluster.request("POST", "/v1/jobs", body)
        return answer.status_code, answer.text

    start = "Enforcing job modify index"
    assert enforce(5) == (500, f"{start} 5: job does not exist")
    assert enforce(0)[0] == 200
    assert enforce(0) == (500, f"{start} 0: job already exists")
    index = cluster.get("/v1/job/j")["JobModifyIndex"]
    expected = f"{start} 5: job exists with conflicting job modify index: {index}"
    assert enforce(5) == (500, expected)
    assert enforce(index, a="b")[0] == 200


@pytest.mark.fact("job-kind")
@pytest.mark.parametrize(
    ("before", "after", "text"),
    [
        (
            batch_job("j", TRUE),
            service_job("j", SLEEP),
            'cannot update job from type "batch" to "service"',
        ),
        (
            parameterized_job("j", TRUE),
            batch_job("j", TRUE),
            "cannot update parameterized job to being non-parameterized",
        ),
        (
            batch_job("j", TRUE),
            parameterized_job("j", TRUE),
            "cannot update non-parameterized job to being parameterized",
        ),
        (
            batch_job("j", TRUE),
            batch_job("j", TRUE, Periodic={"Specs": ["@daily"]}),
            "cannot update non-periodic job to being periodic",
        ),
    ],
)
def test_a_job_cannot_become_another_kind_of_job(
    cluster: Cluster, before: Json, after: Json, text: str
) -> None:
    cluster.register(before)
    answer = cluster.request("POST", "/v1/jobs", {"Job": after})
    assert (answer.status_code, answer.text) == (500, text)


@pytest.mark.fact("parent-status")
def test_parents_get_no_evaluation_and_are_running(cluster_with_jobs: Cluster) -> None:
    jobs: list[Json] = [
        parameterized_job("free", TRUE),
        batch_job("hourly", TRUE, Periodic={"Specs": ["0 * * * *"]}),
    ]
    for job in jobs:
        answer = cluster_with_jobs.register(job)
        assert (answer["EvalID"], answer["EvalCreateIndex"]) == ("", 0)
        assert cluster_with_jobs.get(f"/v1/job/{job['ID']}")["Status"] == "running"


@pytest.mark.fact("namespace-unknown")
def test_an_unknown_namespace_fails_only_at_registering(cluster_with_jobs: Cluster) -> None:
    answer = cluster_with_jobs.request(
        "POST", "/v1/jobs?namespace=none", {"Job": batch_job("j", TRUE)}
    )
    text = 'job "j" is in nonexistent namespace "none"'
    assert (answer.status_code, answer.text) == (500, text)
    assert cluster_with_jobs.get("/v1/jobs", namespace="none") == []
    cluster_with_jobs.post("/v1/namespace/there", {"Name": "there"})
    cluster_with_jobs.post("/v1/jobs", {"Job": batch_job("j", TRUE)}, namespace="there")
    assert [
        job["Namespace"] for job in cluster_with_jobs.get("/v1/jobs", namespace="*", prefix="j")
    ] == ["there"]


@pytest.mark.fact("memory-max-warning")
def test_memory_max_without_oversubscription_is_a_warning_and_no_error(tmp_path: Path) -> None:
    job = batch_job("j", {**TRUE, "Resources": {"MemoryMB": 50, "MemoryMaxMB": 90}})
    with running_cluster(tmp_path, oversubscription=False) as cluster:
        warnings = cluster.register(job)["Warnings"]
        assert warnings.startswith("1 warning:\n\n* Memory oversubscription is not enabled; Task ")
        config = cluster.get("/v1/operator/scheduler/configuration")["SchedulerConfig"]
        assert config["MemoryOversubscriptionEnabled"] is False
        cluster.post(
            "/v1/operator/scheduler/configuration", {"MemoryOversubscriptionEnabled": True}
        )
        assert cluster.register(job)["Warnings"] == ""


@pytest.mark.fact("plan-dry")
def test_a_plan_changes_nothing_and_says_what_would_change(cluster: Cluster) -> None:
    plan: Json = {"Job": service_job("s", SLEEP, {"Count": 2}), "Diff": True}
    found = cluster.post("/v1/job/s/plan", plan)
    assert (found["Diff"]["Type"], found["JobModifyIndex"]) == ("Added", 0)
    assert found["Annotations"]["DesiredTGUpdates"]["g"]["Place"] == 2
    assert found["NextPeriodicLaunch"] == "0001-01-01T00:00:00Z"
    assert cluster.request("GET", "/v1/job/s").status_code == 404
    index = cluster.register(plan["Job"])["JobModifyIndex"]
    eventually(lambda: cluster.deployment("s")["Status"] == "successful")
    found = cluster.post("/v1/job/s/plan", plan)
    assert (found["Diff"]["Type"], found["JobModifyIndex"]) == ("None", index)
    changed = service_job("s", {**SLEEP, "Env": {"A": "1"}}, {"Count": 3})
    diff = cluster.post("/v1/job/s/plan", {"Job": changed, "Diff": True})["Diff"]
    (group,) = diff["TaskGroups"]
    assert (diff["Type"], group["Type"], group["Tasks"][0]["Type"]) == ("Edited",) * 3
    count = {"Type": "Edited", "Name": "Count", "Old": "2", "New": "3", "Annotations": None}
    env = {"Type": "Added", "Name": "Env[A]", "Old": "", "New": "1", "Annotations": None}
    assert group["Fields"] == [count]
    assert group["Tasks"][0]["Fields"] == [env]
    assert group["Tasks"][0]["Annotations"] == ["forces create/destroy update"]


@pytest.mark.fact("delete-missing")
def test_deleting_a_job_that_is_not_there_is_no_error(cluster_with_jobs: Cluster) -> None:
    answer = cluster_with_jobs.request("DELETE", "/v1/job/none")
    assert (answer.status_code, answer.json()["EvalID"]) == (200, "")


@pytest.mark.fact("job-stopped")
def test_a_stopped_job_stays_with_a_new_version_and_a_purged_one_is_gone(cluster: Cluster) -> None:
    cluster.register(batch_job("j", SLEEP))
    eventually(lambda: cluster.get("/v1/job/j/allocations"))
    cluster.request("DELETE", "/v1/job/j")
    alloc = cluster.alloc_once_dead("j")
    assert alloc["DesiredStatus"] == "stop"
    job = cluster.get("/v1/job/j")
    assert (job["Stop"], job["Version"]) == (True, 1)
    cluster.request("DELETE", "/v1/job/j?purge=true")
    assert cluster.request("GET", "/v1/job/j").status_code == 404
