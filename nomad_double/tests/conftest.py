"""The clusters that the double's tests share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from nomad_cluster import TRUE, Cluster, batch_job, parameterized_job, running_cluster


@pytest.fixture(scope="module")
def cluster_with_jobs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """One cluster for all tests of a file, with a job of each kind."""
    with running_cluster(tmp_path_factory.mktemp("nomad")) as cluster:
        cluster.register(parameterized_job("free", TRUE))
        required = {"Payload": "required", "MetaRequired": ["must"], "MetaOptional": ["may"]}
        cluster.register(parameterized_job("strict", TRUE, **required))
        cluster.register(parameterized_job("mute", TRUE, Payload="forbidden"))
        cluster.register(parameterized_job("stopped", TRUE))
        cluster.request("DELETE", "/v1/job/stopped")
        cluster.register(batch_job("plain", TRUE))
        hourly = {"Specs": ["0 * * * *"]}
        cluster.register(batch_job("hourly", TRUE, Periodic=hourly))
        cluster.register(batch_job("off", TRUE, Periodic={**hourly, "Enabled": False}))
        cluster.alloc_once_dead("plain")
        yield cluster


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    """A cluster without jobs."""
    with running_cluster(tmp_path) as cluster:
        yield cluster
