"""Faults that a test asks for."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
import requests

from nomad_cluster import (
    TRUE,
    Cluster,
    batch_job,
    eventually,
    parameterized_job,
)


@pytest.mark.fact("connection-lost")
def test_while_it_is_away_connections_are_refused_and_it_comes_back_as_it_was(
    cluster: Cluster,
) -> None:
    cluster.register(parameterized_job("p", TRUE))
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(
            requests.get, f"{cluster.double.address}/v1/jobs?index=999", timeout=60
        )
        eventually(lambda: cluster.double.requests["GET /v1/jobs"])
        cluster.double.faults.away()
        assert isinstance(waiting.exception(20), requests.ConnectionError)
    with pytest.raises(requests.ConnectionError):
        requests.get(f"{cluster.double.address}/v1/jobs", timeout=5)
    cluster.double.faults.back()
    assert [job["ID"] for job in cluster.get("/v1/jobs")] == ["p"]


@pytest.mark.fact("no-leader")
def test_without_a_leader_all_but_the_agent_fails(cluster: Cluster) -> None:
    cluster.double.faults.no_leader = True
    answer = cluster.request("GET", "/v1/jobs")
    assert (answer.status_code, answer.text) == (500, "No cluster leader")
    assert cluster.request("GET", "/v1/agent/self").status_code == 200


@pytest.mark.fact("connection-lost")
def test_a_dropped_answer_is_of_a_request_that_was_acted_on(cluster: Cluster) -> None:
    cluster.register(parameterized_job("p", TRUE))
    cluster.double.faults.drop_responses("POST /v1/job/:id/dispatch", 1)
    with pytest.raises(requests.ConnectionError):
        cluster.dispatch("p")
    assert len(cluster.get("/v1/jobs", prefix="p/")) == 1
    cluster.dispatch("p")
    assert cluster.double.requests["POST /v1/job/:id/dispatch"] == 2


@pytest.mark.fact("busy-429", "own-fault")
def test_an_answer_may_be_planned(cluster: Cluster) -> None:
    cluster.double.faults.answer("GET /v1/jobs", 429, "slow down", 1)
    answer = cluster.request("GET", "/v1/jobs")
    assert (answer.status_code, answer.text) == (429, "slow down")
    assert cluster.get("/v1/jobs") == []


@pytest.mark.fact("own-fault", "no-room")
def test_a_blocked_placement_ends_when_the_fault_ends(cluster: Cluster) -> None:
    cluster.double.faults.block_placement("cpu")
    cluster.register(batch_job("j", TRUE))
    eventually(lambda: len(cluster.get("/v1/job/j/evaluations")) == 2)
    metric = cluster.get("/v1/job/j/evaluations")[0]["FailedTGAllocs"]["g"]
    assert metric["DimensionExhausted"] == {"cpu": 1}
    cluster.double.faults.block_placement("")
    assert cluster.alloc_once_dead("j")["ClientStatus"] == "complete"
