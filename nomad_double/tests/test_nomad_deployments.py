"""Deployments of services: canaries, promotion, failure and return."""

from __future__ import annotations

import pytest

from nomad_cluster import (
    SECOND,
    SLEEP,
    Cluster,
    Json,
    ended,
    eventually,
    live,
    service_job,
    shell_task,
)


def changed(value: str) -> Json:
    """The sleeping task, changed in a way that needs new allocations."""
    return {**SLEEP, "Env": {"V": value}}


@pytest.mark.fact("deployment-first")
def test_the_first_version_is_a_deployment_without_canaries_and_becomes_stable(
    cluster: Cluster,
) -> None:
    cluster.register(service_job("s", SLEEP, {"Count": 2}, Canary=1))
    deployment = ended(cluster, "s", 0)
    group = deployment["TaskGroups"]["g"]
    assert deployment["StatusDescription"] == "Deployment completed successfully"
    assert (group["DesiredCanaries"], group["DesiredTotal"], group["HealthyAllocs"]) == (0, 2, 2)
    assert cluster.get("/v1/job/s")["Stable"] is True
    assert [alloc["Name"] for alloc in live(cluster, "s")] == ["s.g[0]", "s.g[1]"]


@pytest.mark.fact("deployment-in-place")
@pytest.mark.parametrize(
    "group",
    [{"ShutdownDelay": SECOND}, {"RestartPolicy": {"Attempts": 1}}, {"Count": 3}],
)
def test_what_can_be_changed_in_place_is_deployed_without_canaries(
    cluster: Cluster, group: Json
) -> None:
    cluster.register(service_job("s", SLEEP, {"Count": 2}, Canary=1))
    ended(cluster, "s", 0)
    before = {alloc["ID"] for alloc in live(cluster, "s")}
    cluster.register(service_job("s", SLEEP, {"Count": 2, **group}, Canary=1))
    deployment = ended(cluster, "s", 1)
    assert deployment["Status"] == "successful"
    assert deployment["TaskGroups"]["g"]["DesiredCanaries"] == 0
    assert before <= {alloc["ID"] for alloc in live(cluster, "s")}
    assert {alloc["JobVersion"] for alloc in live(cluster, "s")} == {1}


@pytest.mark.fact("deployment-canary")
def test_a_destructive_change_places_canaries_beside_the_old_until_they_are_promoted(
    cluster: Cluster,
) -> None:
    cluster.register(service_job("s", changed("1"), {"Count": 2}, Canary=1))
    ended(cluster, "s", 0)
    cluster.register(service_job("s", changed("2"), {"Count": 2}, Canary=1))
    eventually(lambda: cluster.deployment("s")["TaskGroups"]["g"]["PlacedCanaries"])
    deployment = cluster.deployment("s")
    waiting = "Deployment is running but requires manual promotion"
    assert deployment["StatusDescription"] == waiting
    body = {"DeploymentID": deployment["ID"], "All": True}
    answer = cluster.request("POST", f"/v1/deployment/promote/{deployment['ID']}", body)
    if answer.status_code != 200:  # unless it became healthy in the meantime
        text = '1 error occurred:\n\t* Task group "g" has 0/1 healthy allocations\n\n'
        assert (answer.status_code, answer.text) == (500, text)
        eventually(lambda: cluster.deployment("s")["TaskGroups"]["g"]["HealthyAllocs"] == 1)
        assert [a["JobVersion"] for a in live(cluster, "s")] == [0, 1, 0]
        canary = live(cluster, "s")[1]
        assert canary["DeploymentStatus"]["Canary"] is True
        answer = cluster.request("POST", f"/v1/deployment/promote/{deployment['ID']}", body)
    assert answer.status_code == 200
    assert ended(cluster, "s", 1)["TaskGroups"]["g"]["Promoted"] is True
    found = live(cluster, "s")
    assert [(a["JobVersion"], a["DeploymentStatus"]["Canary"]) for a in found] == [(1, False)] * 2


@pytest.mark.fact("deployment-auto-promote")
def test_auto_promote_needs_nobody(cluster: Cluster) -> None:
    cluster.register(service_job("s", changed("1"), {"Count": 2}, Canary=2, AutoPromote=True))
    ended(cluster, "s", 0)
    cluster.register(service_job("s", changed("2"), {"Count": 2}, Canary=2, AutoPromote=True))
    words = "Deployment is running pending automatic promotion"
    eventually(lambda: cluster.deployment("s")["StatusDescription"] == words)
    assert ended(cluster, "s", 1)["Status"] == "successful"
    assert {alloc["JobVersion"] for alloc in live(cluster, "s")} == {1}


@pytest.mark.fact("deployment-rolls")
def test_without_canaries_a_change_rolls_by_max_parallel(cluster: Cluster) -> None:
    cluster.register(service_job("s", changed("1"), {"Count": 3}))
    ended(cluster, "s", 0)
    cluster.register(service_job("s", changed("2"), {"Count": 3}))
    least = 3
    while (
        cluster.deployment("s")["JobVersion"] == 0 or cluster.deployment("s")["Status"] == "running"
    ):
        least = min(least, len(live(cluster, "s")))
    assert cluster.deployment("s")["Status"] == "successful"
    assert least >= 2
    assert {alloc["JobVersion"] for alloc in live(cluster, "s")} == {1}


@pytest.mark.fact("deployment-auto-revert")
def test_a_deployment_that_fails_goes_back_to_the_stable_version_as_a_new_one(
    cluster: Cluster,
) -> None:
    cluster.register(service_job("s", changed("1"), Canary=1, AutoRevert=True))
    ended(cluster, "s", 0)
    bad = service_job("s", shell_task("exit 1"), Canary=1, AutoRevert=True)
    cluster.register(bad)
    failed = ended(cluster, "s", 1)
    words = "Failed due to unhealthy allocations - rolling back to job version 0"
    assert (failed["Status"], failed["StatusDescription"]) == ("failed", words)
    assert ended(cluster, "s", 2)["Status"] == "successful"
    job = cluster.get("/v1/job/s")
    assert (job["Version"], job["TaskGroups"][0]["Tasks"][0]["Env"]) == (2, {"V": "1"})


@pytest.mark.fact("deployment-fails")
def test_without_auto_revert_the_job_stays_at_the_version_that_failed(cluster: Cluster) -> None:
    cluster.register(service_job("s", changed("1"), Canary=1))
    ended(cluster, "s", 0)
    old = live(cluster, "s")[0]["ID"]
    cluster.register(service_job("s", changed("2"), Canary=1))
    eventually(lambda: cluster.deployment("s")["TaskGroups"]["g"]["PlacedCanaries"])
    answer = cluster.post(f"/v1/deployment/fail/{cluster.deployment('s')['ID']}")
    assert answer["RevertedJobVersion"] is None
    assert ended(cluster, "s", 1)["StatusDescription"] == "Deployment marked as failed"
    eventually(lambda: [alloc["ID"] for alloc in live(cluster, "s")] == [old])
    assert (cluster.get("/v1/job/s")["Version"], cluster.get("/v1/job/s")["Stable"]) == (1, False)
    again = cluster.request("POST", f"/v1/deployment/fail/{cluster.deployment('s')['ID']}")
    assert again.text == "can't fail terminal deployment"


@pytest.mark.fact("deployment-auto-revert")
def test_a_first_version_that_fails_has_nothing_to_go_back_to(cluster: Cluster) -> None:
    cluster.register(service_job("s", shell_task("exit 1"), AutoRevert=True))
    words = "Failed due to unhealthy allocations - no stable job version to auto revert to"
    assert ended(cluster, "s", 0)["StatusDescription"] == words


@pytest.mark.fact("deployment-deadline")
def test_a_deployment_that_makes_no_progress_fails_at_its_deadline(cluster: Cluster) -> None:
    quick = {"HealthyDeadline": SECOND, "ProgressDeadline": 2 * SECOND}
    again = {"RestartPolicy": {"Attempts": 20, "Delay": SECOND // 10}}
    cluster.register(service_job("s", shell_task("sleep 0.1; exit 1"), again, **quick))
    assert ended(cluster, "s", 0)["StatusDescription"] == "Failed due to progress deadline"


@pytest.mark.fact("deployment-cancelled")
def test_a_newer_version_cancels_the_deployment_of_the_older(cluster: Cluster) -> None:
    cluster.register(service_job("s", changed("1"), Canary=1))
    ended(cluster, "s", 0)
    cluster.register(service_job("s", changed("2"), Canary=1))
    eventually(lambda: cluster.deployment("s")["TaskGroups"]["g"]["PlacedCanaries"])
    cluster.register(service_job("s", changed("3"), Canary=1))
    cancelled = ended(cluster, "s", 1)
    words = "Cancelled due to newer version of job"
    assert (cancelled["Status"], cancelled["StatusDescription"]) == ("cancelled", words)
    eventually(lambda: [a["JobVersion"] for a in live(cluster, "s")] == [0, 2])
    cluster.request("DELETE", "/v1/job/s")
    assert ended(cluster, "s", 2)["StatusDescription"] == "Cancelled because job is stopped"


@pytest.mark.fact("deployment-paused")
def test_a_paused_deployment_goes_on_where_it_stopped(cluster: Cluster) -> None:
    cluster.register(service_job("s", changed("1"), MinHealthyTime=SECOND))
    name = cluster.deployment("s")["ID"]
    body = {"DeploymentID": name, "Pause": True}
    assert cluster.post(f"/v1/deployment/pause/{name}", body)["EvalID"] == ""
    assert cluster.deployment("s")["StatusDescription"] == "Deployment is paused"
    cluster.post(f"/v1/deployment/pause/{name}", {**body, "Pause": False})
    assert ended(cluster, "s", 0)["Status"] == "successful"


@pytest.mark.fact("job-reverted")
def test_reverting_registers_the_old_spec_as_a_new_version(cluster: Cluster) -> None:
    cluster.register(service_job("s", changed("1")))
    ended(cluster, "s", 0)
    cluster.register(service_job("s", changed("2")))
    ended(cluster, "s", 1)
    body = {"JobID": "s", "JobVersion": 0}
    answer = cluster.request("POST", "/v1/job/s/revert", {**body, "EnforcePriorVersion": 5})
    assert answer.text == "Current job has version 1; enforcing version 5"
    cluster.post("/v1/job/s/revert", body)
    assert ended(cluster, "s", 2)["Status"] == "successful"
    assert cluster.get("/v1/job/s")["TaskGroups"][0]["Tasks"][0]["Env"] == {"V": "1"}


@pytest.mark.fact("job-scaled")
def test_scaling_changes_the_count_alone(cluster: Cluster) -> None:
    cluster.register(service_job("s", SLEEP, {"Count": 1}))
    ended(cluster, "s", 0)
    cluster.post("/v1/job/s/scale", {"Count": 2, "Target": {"Group": "g"}})
    eventually(lambda: len(live(cluster, "s")) == 2)
    cluster.post("/v1/job/s/scale", {"Count": 1, "Target": {"Group": "g"}})
    eventually(lambda: [alloc["Name"] for alloc in live(cluster, "s")] == ["s.g[0]"])
