"""Jobs that start by the clock or by force."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

import pytest

from nomad_cluster import (
    SLEEP,
    TRUE,
    Cluster,
    batch_job,
)
from nomad_double.cron import CronError, parse_cron


@pytest.mark.fact("plan-periodic")
def test_a_plan_tells_when_a_periodic_job_starts_next(cluster_with_jobs: Cluster) -> None:
    job = batch_job("hourly", TRUE, Periodic={"Specs": ["0 * * * *"]})
    found = cluster_with_jobs.post("/v1/job/hourly/plan", {"Job": job, "Diff": True})
    due = datetime.now(UTC).replace(minute=0, second=0, microsecond=0) + timedelta(hours=1)
    assert found["NextPeriodicLaunch"] == due.strftime("%Y-%m-%dT%H:%M:%SZ")


@pytest.mark.fact("periodic-force")
def test_force_ignores_overlap_and_its_child_is_found_by_the_evaluation(cluster: Cluster) -> None:
    periodic = {"Specs": ["0 0 1 1 *"], "ProhibitOverlap": True}
    cluster.register(batch_job("p", SLEEP, Periodic=periodic, Meta={"a": "b"}))
    answer = cluster.post("/v1/job/p/periodic/force")
    child = cluster.get(f"/v1/evaluation/{answer['EvalID']}")["JobID"]
    assert re.fullmatch(r"p/periodic-\d{10}", child)
    job = cluster.get(f"/v1/job/{child}")
    assert (job["ParentID"], job["Periodic"], job["Meta"]) == ("p", None, {"a": "b"})
    assert cluster.request("POST", "/v1/job/p/periodic/force").status_code == 200


@pytest.mark.fact("periodic-overlap")
def test_the_clock_launches_what_is_due_unless_it_overlaps(cluster: Cluster) -> None:
    every = {"Specs": ["* * * * *"]}
    cluster.register(batch_job("often", SLEEP, Periodic=every))
    cluster.register(batch_job("once", SLEEP, Periodic={**every, "ProhibitOverlap": True}))
    begin = datetime(2030, 1, 1, tzinfo=UTC)
    clock = cluster.double._periodic
    for minute in (1, 2):
        at = begin + timedelta(minutes=minute)
        clock.launch_due(at - timedelta(seconds=1), at)
    stamps = [int((begin + timedelta(minutes=m)).timestamp()) for m in (1, 2)]
    assert [j["ID"] for j in cluster.get("/v1/jobs", prefix="often/")] == [
        f"often/periodic-{stamp}" for stamp in stamps
    ]
    assert [j["ID"] for j in cluster.get("/v1/jobs", prefix="once/")] == [
        f"once/periodic-{stamps[0]}"
    ]


@pytest.mark.fact("cron-form")
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


@pytest.mark.fact("cron-form")
@pytest.mark.parametrize(
    "spec", ["", "* * * *", "60 * * * *", "* * * * * *", "a * * * *", "*/0 * * * *"]
)
def test_a_cron_spec_that_says_nothing_is_refused(spec: str) -> None:
    with pytest.raises(CronError):
        parse_cron(spec)
