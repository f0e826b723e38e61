"""What every request to the double meets: the form of errors, IDs, and clients in Python."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import nomad
import pytest
from nomad.api.exceptions import BaseNomadException, URLNotFoundNomadException

from nomad_cluster import (
    Cluster,
    running_cluster,
)

BIG = base64.b64encode(b"x" * 16_385).decode()

PAYLOAD = base64.b64encode(b"x").decode()


@pytest.mark.fact("error-form", "dispatch-refused")
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
        ("POST", "/v1/job/none/periodic/force", {}, 500, "job not found"),
        ("POST", "/v1/job/none/evaluate", {"JobID": "none"}, 500, "job not found"),
        ("POST", "/v1/job/none/revert", {"JobID": "none"}, 500, 'job "none" not found'),
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
    cluster_with_jobs: Cluster, method: str, path: str, body: Any, status: int, text: str
) -> None:
    answer = cluster_with_jobs.request(method, path, body)
    assert (answer.status_code, answer.text) == (status, text)
    assert answer.headers["Content-Type"].startswith("text/plain")


@pytest.mark.fact("id-with-slash")
def test_ids_with_slashes_may_be_quoted_or_not(cluster_with_jobs: Cluster) -> None:
    child = cluster_with_jobs.dispatch("free")["DispatchedJobID"]
    quoted = child.replace("/", "%2F")
    for name in (child, quoted):
        assert cluster_with_jobs.get(f"/v1/job/{name}")["ID"] == child
        assert cluster_with_jobs.get(f"/v1/job/{name}/summary")["JobID"] == child


@pytest.mark.fact("client-errors")
def test_python_nomad_meets_nomads_errors(cluster_with_jobs: Cluster) -> None:
    client = nomad.Nomad(address=cluster_with_jobs.double.address)
    with pytest.raises(URLNotFoundNomadException):
        client.job.get_job("none")
    with pytest.raises(BaseNomadException) as caught:
        client.job.dispatch_job("none")
    assert caught.value.nomad_resp.text == "parameterized job not found"
    assert client.agent.get_agent()["config"]["Version"]["Version"] == "1.10.5"
    assert client.status.leader.get_leader() == "127.0.0.1:4647"
    assert [node["Status"] for node in client.nodes.get_nodes()] == ["ready"]


@pytest.mark.fact("error-wrapped")
def test_a_server_that_is_not_the_leader_wraps_its_errors(tmp_path: Path) -> None:
    with running_cluster(tmp_path, wrapped_errors=True) as cluster:
        answer = cluster.request("POST", "/v1/job/none/dispatch", {})
        text = "rpc error: parameterized job not found"
        assert (answer.status_code, answer.text) == (500, text)
        assert cluster.request("GET", "/v1/job/none").text == "job not found"
