"""Children of parameterized jobs: how they are made, and how often."""

from __future__ import annotations

import re
from concurrent.futures import ThreadPoolExecutor

import nomad
import pytest
import requests

from nomad_cluster import (
    SLEEP,
    TRUE,
    Cluster,
    parameterized_job,
)


@pytest.mark.fact("dispatch-strings")
def test_a_number_in_the_meta_of_a_dispatch_is_no_json_for_nomad(
    cluster_with_jobs: Cluster,
) -> None:
    answer = cluster_with_jobs.request("POST", "/v1/job/free/dispatch", {"Meta": {"a": 1}})
    assert answer.status_code == 400
    assert answer.text.startswith("json: cannot unmarshal number into Go struct field ")


@pytest.mark.fact("child-fixed")
def test_a_dispatched_child_cannot_be_changed_and_the_reason_misleads(cluster: Cluster) -> None:
    cluster.register(parameterized_job("p", SLEEP))
    child = cluster.get(f"/v1/job/{cluster.dispatch('p')['DispatchedJobID']}")
    answer = cluster.request("POST", "/v1/jobs", {"Job": {**child, "Meta": {"a": "b"}}})
    assert answer.text == "cannot update non-parameterized job to being parameterized"


@pytest.mark.fact("dispatch-child")
def test_a_child_is_a_copy_of_its_parent_and_outlives_its_stop(cluster: Cluster) -> None:
    cluster.register(parameterized_job("p", SLEEP, MetaOptional=["a"]))
    answer = cluster.dispatch("p", a="1")
    child = cluster.get(f"/v1/job/{answer['DispatchedJobID']}")
    assert re.fullmatch(r"p/dispatch-\d{10}-[0-9a-f]{8}", child["ID"])
    assert (child["Name"], child["ParentID"], child["Dispatched"]) == (child["ID"], "p", True)
    assert child["Meta"] == {"a": "1"}
    assert child["CreateIndex"] == answer["JobCreateIndex"]
    named = cluster.post("/v1/job/p/dispatch", {"IdPrefixTemplate": "mine"})["DispatchedJobID"]
    assert re.fullmatch(r"p/dispatch-mine-\d{10}-[0-9a-f]{8}", named)
    cluster.register(parameterized_job("p", {**SLEEP, "Env": {"NEW": "1"}}, MetaOptional=["a"]))
    cluster.request("DELETE", "/v1/job/p")
    now = cluster.get(f"/v1/job/{child['ID']}")
    assert now["TaskGroups"][0]["Tasks"][0]["Env"] is None
    assert not now["Stop"]


@pytest.mark.fact("dispatch-token")
def test_a_token_in_the_query_makes_one_child_until_the_child_is_collected(
    cluster: Cluster,
) -> None:
    cluster.register(parameterized_job("p", TRUE, MetaOptional=["a"]))
    first = cluster.dispatch("p", token="one", a="1")
    assert first["EvalID"]
    again = cluster.dispatch("p", token="one", a="2")
    assert again["DispatchedJobID"] == first["DispatchedJobID"]
    assert (again["EvalID"], again["EvalCreateIndex"]) == ("", 0)
    cluster.alloc_once_dead(first["DispatchedJobID"])
    assert cluster.dispatch("p", token="one")["DispatchedJobID"] == first["DispatchedJobID"]
    assert cluster.request("PUT", "/v1/system/gc").text == ""
    assert cluster.request("GET", f"/v1/job/{first['DispatchedJobID']}").status_code == 404
    assert cluster.dispatch("p", token="one")["DispatchedJobID"] != first["DispatchedJobID"]


@pytest.mark.fact("dispatch-token-client")
def test_python_nomad_puts_the_token_where_it_is_ignored(cluster_with_jobs: Cluster) -> None:
    client = nomad.Nomad(address=cluster_with_jobs.double.address)
    made = [client.job.dispatch_job("free", idempotency_token="t") for _ in range(2)]
    assert made[0]["DispatchedJobID"] != made[1]["DispatchedJobID"]


@pytest.mark.fact("dispatch-token-race")
@pytest.mark.parametrize("race", [True, False])
def test_before_1_11_2_two_at_once_with_one_token_make_two_children(
    cluster: Cluster, race: bool
) -> None:
    cluster.register(parameterized_job("p", TRUE))
    cluster.double.faults.idempotency_race = race
    url = f"{cluster.double.address}/v1/job/p/dispatch?idempotency_token=t"
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda _: requests.post(url, json={}, timeout=10).json(), range(4)))
    names = {answer["DispatchedJobID"] for answer in answers}
    assert len(names) == 1 if not race else len(names) > 1
