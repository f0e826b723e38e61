"""Reading the logs of tasks."""

from __future__ import annotations

import base64
import json

import pytest
import requests

from nomad_cluster import (
    Cluster,
    batch_job,
    eventually,
    shell_task,
)


@pytest.mark.fact("log-read")
def test_a_log_is_read_from_an_offset_from_either_end_plain_or_in_frames(cluster: Cluster) -> None:
    cluster.register(batch_job("j", shell_task("printf 0123456789; printf err >&2")))
    alloc = cluster.alloc_once_dead("j")
    assert cluster.log(alloc) == "0123456789"
    assert cluster.log(alloc, "stderr") == "err"
    assert cluster.log(alloc, offset=3) == "3456789"
    assert cluster.log(alloc, origin="end", offset=3) == "789"
    assert cluster.log(alloc, origin="end", offset=300) == "0123456789"
    answer = cluster.request("GET", f"/v1/client/fs/logs/{alloc['ID']}?task=t&type=stdout")
    frame = json.loads(answer.text)
    assert frame["File"] == "alloc/logs/t.stdout.0"
    assert base64.b64decode(frame["Data"]) == b"0123456789"


@pytest.mark.fact("log-invalid")
@pytest.mark.parametrize(
    ("query", "status", "text"),
    [
        ("", 400, "must provide task name"),
        ("task=t", 400, "must provide log type (stdout/stderr)"),
        ("task=none&type=stdout", 400, 'unknown task name "none"'),
        ("task=t&type=stdout&origin=x", 400, "origin must be start or end"),
        ("task=t&type=stdout&offset=x", 400, "error parsing offset: "),
        ("task=t&type=stdout&follow=x", 400, "failed to parse follow field to boolean: "),
    ],
)
def test_a_log_that_is_asked_for_wrongly_is_refused(
    cluster: Cluster, query: str, status: int, text: str
) -> None:
    cluster.register(batch_job("j", shell_task("true")))
    alloc = cluster.alloc_once_dead("j")
    answer = cluster.request("GET", f"/v1/client/fs/logs/{alloc['ID']}?{query}")
    assert answer.status_code == status
    assert answer.text.startswith(text)


@pytest.mark.fact("log-not-started")
def test_a_log_of_a_task_that_did_not_start_is_not_there(cluster: Cluster) -> None:
    cluster.register(batch_job("j", shell_task("", Config={"args": []})))
    alloc = cluster.alloc_once_dead("j")
    answer = cluster.request("GET", f"/v1/client/fs/logs/{alloc['ID']}?task=t&type=stdout")
    assert answer.status_code == 404
    assert answer.text == 'task "t" not started yet. No logs available'


@pytest.mark.fact("log-followed")
def test_a_followed_log_goes_on_until_the_task_ends(cluster: Cluster) -> None:
    cluster.register(batch_job("j", shell_task("echo one; sleep 1; echo two")))
    alloc = eventually(lambda: cluster.get("/v1/job/j/allocations"))[0]
    eventually(lambda: cluster.newest_alloc("j")["ClientStatus"] == "running")
    url = f"{cluster.double.address}/v1/client/fs/logs/{alloc['ID']}"
    parameters = {"task": "t", "type": "stdout", "plain": "true", "follow": "true"}
    with requests.get(url, parameters, stream=True, timeout=20) as answer:
        assert list(answer.iter_lines()) == [b"one", b"two"]
