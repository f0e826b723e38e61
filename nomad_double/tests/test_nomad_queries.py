"""Lists, filters, blocking queries and the event stream."""

from __future__ import annotations

import json
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import requests

from nomad_cluster import (
    SLEEP,
    TRUE,
    Cluster,
    batch_job,
    eventually,
    parameterized_job,
)


@pytest.mark.fact("list-form")
def test_a_list_is_sorted_filtered_and_paged(cluster: Cluster) -> None:
    for name in ("b", "a/1", "a/2", "a"):
        cluster.register(batch_job(name, SLEEP if name == "b" else TRUE, Meta={"k": name}))
    for name in ("a", "a/1", "a/2"):
        cluster.alloc_once_dead(name)
    eventually(lambda: cluster.get("/v1/job/b")["Status"] == "running")

    def ids(**parameters: Any) -> list[str]:
        return [job["ID"] for job in cluster.get("/v1/jobs", **parameters)]

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
    page = cluster.request("GET", "/v1/jobs?per_page=3")
    assert page.headers["X-Nomad-NextToken"] == "default.b"
    assert ids(next_token="default.b") == ["b"]
    assert "Meta" not in cluster.get("/v1/jobs")[0]
    assert cluster.get("/v1/jobs", meta="true")[0]["Meta"] == {"k": "a"}


@pytest.mark.fact("filter-invalid")
@pytest.mark.parametrize("expression", ["Status ==", "Status = dead", "(ID == a", "Nothing == 1"])
def test_a_filter_that_cannot_be_read_is_400(cluster_with_jobs: Cluster, expression: str) -> None:
    answer = cluster_with_jobs.request("GET", "/v1/jobs", params={"filter": expression})
    assert answer.status_code == 400
    assert answer.text.startswith("failed to read result page: ")


@pytest.mark.fact("blocking-wakes")
def test_a_waiting_list_wakes_on_any_change_and_else_at_its_time(cluster: Cluster) -> None:
    cluster.register(parameterized_job("p", TRUE))
    index = int(cluster.request("GET", "/v1/jobs").headers["X-Nomad-Index"])
    begin = time.monotonic()
    answer = cluster.request("GET", f"/v1/jobs?index={index}&wait=300ms")
    assert 0.3 <= time.monotonic() - begin < 2
    assert int(answer.headers["X-Nomad-Index"]) == index
    with ThreadPoolExecutor(1) as pool:
        url = f"{cluster.double.address}/v1/jobs?prefix=other&index={index}&wait=60s"
        waiting = pool.submit(requests.get, url, timeout=70)
        cluster.dispatch("p")
        answer = waiting.result(20)
    assert answer.json() == []
    assert int(answer.headers["X-Nomad-Index"]) > index


@pytest.mark.fact("blocking-missing")
def test_one_may_wait_for_a_job_that_is_not_there_yet(cluster: Cluster) -> None:
    cluster.register(parameterized_job("p", TRUE))
    index = int(cluster.request("GET", "/v1/jobs").headers["X-Nomad-Index"])
    with ThreadPoolExecutor(1) as pool:
        url = f"{cluster.double.address}/v1/job/new?index={index}&wait=60s"
        waiting = pool.submit(requests.get, url, timeout=70)
        cluster.register(parameterized_job("new", TRUE))
        assert waiting.result(20).json()["ID"] == "new"


@pytest.mark.fact("index-resets")
def test_the_index_may_go_backwards_and_a_wait_may_end_without_a_change(cluster: Cluster) -> None:
    for name in ("a", "b", "c", "d"):
        cluster.register(parameterized_job(name, TRUE))
    index = int(cluster.request("GET", "/v1/jobs").headers["X-Nomad-Index"])
    cluster.double.faults.spurious_wakeups = True
    answer = cluster.request("GET", f"/v1/jobs?index={index}&wait=60s")
    assert int(answer.headers["X-Nomad-Index"]) == index
    cluster.double.faults.spurious_wakeups = False
    cluster.double.faults.reset_index()
    assert int(cluster.request("GET", "/v1/jobs").headers["X-Nomad-Index"]) < index


@pytest.mark.fact("stream-form")
def test_the_event_stream_begins_with_a_heartbeat_and_replays_what_it_kept(
    cluster: Cluster,
) -> None:
    cluster.register(parameterized_job("p", TRUE))
    url = f"{cluster.double.address}/v1/event/stream?topic=Job:p&topic=Allocation"
    with requests.get(url, stream=True, timeout=20) as answer:
        lines = answer.iter_lines()
        assert json.loads(next(lines)) == {}
        (event,) = json.loads(next(lines))["Events"]
        assert (event["Topic"], event["Type"], event["Key"]) == ("Job", "JobRegistered", "p")
        assert event["Payload"]["Job"]["ID"] == "p"
        child = cluster.dispatch("p")["DispatchedJobID"]
        line = json.loads(next(lines))
        event = line["Events"][0]
        assert (event["Topic"], event["FilterKeys"]) == ("Allocation", [child])
        assert line["Index"] == event["Index"]
        assert "Job" not in event["Payload"]["Allocation"]
