"""Where allocations are placed, when they wait, and when they are forgotten."""

from __future__ import annotations

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
    shell_task,
)


@pytest.mark.fact("no-room")
def test_without_room_a_job_is_taken_and_waits_with_nomads_reason(tmp_path: Path) -> None:
    with running_cluster(tmp_path, memory_mb=100) as cluster:
        cluster.register(batch_job("first", SLEEP))
        eventually(lambda: cluster.get("/v1/job/first")["Status"] == "running")
        cluster.register(batch_job("second", {**TRUE, "Resources": {"CPU": 10, "MemoryMB": 80}}))
        eventually(lambda: len(cluster.get("/v1/job/second/evaluations")) == 2)
        done, blocked = cluster.get("/v1/job/second/evaluations")
        assert (done["Status"], done["BlockedEval"]) == ("complete", blocked["ID"])
        assert done["FailedTGAllocs"]["g"]["DimensionExhausted"] == {"memory": 1}
        assert (blocked["Status"], blocked["TriggeredBy"]) == ("blocked", "queued-allocs")
        assert blocked["StatusDescription"] == "created to place remaining allocations"
        assert cluster.get("/v1/job/second")["Status"] == "pending"
        assert cluster.get("/v1/job/second/summary")["Summary"]["g"]["Queued"] == 1
        cluster.request("DELETE", "/v1/job/first")
        assert cluster.alloc_once_dead("second")["ClientStatus"] == "complete"
        assert cluster.get("/v1/job/second/summary")["Summary"]["g"]["Queued"] == 0


@pytest.mark.fact("no-node")
@pytest.mark.parametrize(
    ("job", "reason"),
    [
        (batch_job("j", {**TRUE, "Driver": "java"}), {"missing drivers": 1}),
        (
            batch_job(
                "j",
                TRUE,
                Constraints=[{"LTarget": "${attr.kernel.name}", "RTarget": "bsd", "Operand": "="}],
            ),
            {"${attr.kernel.name} = bsd": 1},
        ),
        (batch_job("j", TRUE, Datacenters=["mars"]), None),
    ],
)
def test_a_job_that_no_node_may_run_is_taken_all_the_same(
    cluster: Cluster, job: Json, reason: Json | None
) -> None:
    cluster.register(job)
    eventually(lambda: cluster.get("/v1/job/j/evaluations"))
    metric = eventually(lambda: cluster.get("/v1/job/j/evaluations")[0]["FailedTGAllocs"])["g"]
    assert metric["ConstraintFiltered"] == reason
    assert metric["NodesEvaluated"] == (0 if reason is None else 1)


@pytest.mark.fact("constraint-forms")
def test_a_constraint_that_holds_is_no_hindrance(cluster: Cluster) -> None:
    rules = [
        {"LTarget": "${attr.nomad.version}", "RTarget": ">= 1.6, < 3", "Operand": "version"},
        {"LTarget": "${attr.cpu.numcores}", "RTarget": "0", "Operand": ">"},
        {"LTarget": "${attr.os.signals}", "RTarget": "SIGHUP,SIGTERM", "Operand": "set_contains"},
        {"LTarget": "${node.datacenter}", "RTarget": "^dc", "Operand": "regexp"},
    ]
    cluster.register(batch_job("j", TRUE, Constraints=rules))
    assert cluster.alloc_once_dead("j")["ClientStatus"] == "complete"


@pytest.mark.fact("summary-children")
def test_a_summary_counts_children_even_when_they_are_collected(cluster: Cluster) -> None:
    cluster.register(parameterized_job("p", TRUE))
    children = [cluster.dispatch("p")["DispatchedJobID"] for _ in range(3)]
    for child in children:
        cluster.alloc_once_dead(child)
    cluster.double.collect_garbage()
    assert cluster.get("/v1/jobs", prefix="p/dispatch-") == []
    assert cluster.get("/v1/job/p/summary")["Children"] == {"Pending": 0, "Running": 0, "Dead": 3}


@pytest.mark.fact("garbage")
def test_garbage_is_what_is_dead_and_takes_its_logs_along(cluster: Cluster) -> None:
    cluster.register(batch_job("done", shell_task("echo words")))
    cluster.register(batch_job("runs", SLEEP))
    cluster.register(parameterized_job("p", TRUE))
    alloc = cluster.alloc_once_dead("done")
    assert cluster.log(alloc) == "words\n"
    cluster.double.collect_garbage()
    assert [job["ID"] for job in cluster.get("/v1/jobs")] == ["p", "runs"]
    answer = cluster.request("GET", f"/v1/client/fs/logs/{alloc['ID']}?task=t&type=stdout")
    text = f'Unknown allocation "{alloc["ID"]}"'
    assert (answer.status_code, answer.text) == (404, text)


@pytest.mark.fact("node-lost")
def test_a_lost_node_loses_its_allocations_and_they_are_placed_anew(cluster: Cluster) -> None:
    cluster.register(batch_job("j", SLEEP))
    eventually(lambda: cluster.get("/v1/job/j/allocations"))
    cluster.double.faults.lose_node()
    eventually(lambda: len(cluster.get("/v1/job/j/allocations")) == 2)
    lost, new = sorted(cluster.get("/v1/job/j/allocations"), key=lambda a: a["CreateIndex"])
    assert (lost["ClientStatus"], lost["NextAllocation"]) == ("lost", new["ID"])
    assert lost["NodeID"] != new["NodeID"]
