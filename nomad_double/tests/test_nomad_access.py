"""Tokens and what they allow."""

from __future__ import annotations

from pathlib import Path

import pytest

from nomad_cluster import (
    TRUE,
    parameterized_job,
    running_cluster,
)

TOKENS = {
    "all": ["management"],
    "reader": ["read-job", "list-jobs"],
    "doer": ["dispatch-job", "read-job"],
}


@pytest.mark.fact("acl-denied")
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
    with running_cluster(tmp_path, acl=TOKENS) as cluster:
        cluster.session.headers["Authorization"] = "Bearer all"
        cluster.register(parameterized_job("p", TRUE))
        answer = cluster.request(method, path, {}, headers={"X-Nomad-Token": token or "none"})
        assert answer.status_code == status
        if status == 403:
            assert answer.text == "Permission denied"


@pytest.mark.fact("acl-expired")
def test_an_expired_token_is_refused_and_by_the_parser_as_a_failure(tmp_path: Path) -> None:
    with running_cluster(tmp_path, acl=TOKENS) as cluster:
        cluster.session.headers["X-Nomad-Token"] = "all"
        assert cluster.get("/v1/jobs") == []
        cluster.double.faults.expire_token("all")
        answer = cluster.request("GET", "/v1/jobs")
        assert (answer.status_code, answer.text) == (403, "Permission denied")
        answer = cluster.request("POST", "/v1/jobs/parse", {"JobHCL": "x"})
        assert answer.status_code == 500
        assert answer.text.endswith("ACL token expired")
