"""A toy service on Consul and the double of Nomad, and what a new model costs its callers there.

Shared by the tests, which ask whether a request failed, and the bench, which asks how long a
swap took.
"""

from __future__ import annotations

import contextlib
import json
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from mlservice.cluster import Nomad
from mlservice.errors import ClusterRefused
from nomad_double import NomadDouble
from template_tests.support.cluster import eventually, on_cluster, register, task_environment
from template_tests.support.load import Load
from template_tests.support.servers import Consul, consul_server, require
from template_tests.support.toy_service import Toy

BODIES = [json.dumps({"x": number / 100}).encode() for number in range(100)]
_PATIENCE = 240.0


@dataclass(frozen=True)
class Rollout:
    """The service, the servers it is registered on, and the URL of its gateway."""

    toy: Toy
    double: NomadDouble
    consul: Consul
    url: str

    def publish(self, hour: int) -> str:
        """Train the model of an hour and publish it; returns its version."""
        period = f"2024-01-02T{hour:02d}"
        here = {"MLSERVICE_PIPELINE__EXECUTOR": "local"}
        result = self.toy.run("pipeline", "run", "--period", period, "--publish", **here)
        assert result.returncode == 0, result.stderr
        return result.stdout.strip().splitlines()[-1].split()[0]

    def swap(self, hour: int, load: Load) -> Swap:
        """Publish the model of an hour under load, and wait until nobody gets another's answer."""
        begin = time.monotonic()
        version = self.publish(hour)
        published = time.monotonic()
        eventually(lambda: load.newest == version, _PATIENCE)
        answered = time.monotonic()
        eventually(lambda: _only(load, version), _PATIENCE)
        self.settle()
        end = time.monotonic()
        before = load.p99(begin - 10, begin)
        return Swap(version, answered - published, before, load.p99(begin, end))

    def settle(self) -> str:
        """Wait until the workers' deployment has ended; returns how."""
        nomad = Nomad(self.double.address)

        def ended() -> str | None:
            deployment = nomad.deployment("toy-worker")
            ended = deployment and deployment.status in ("successful", "failed")
            return deployment.status if deployment and ended else None

        found: str = eventually(ended, _PATIENCE)
        return found

    def logs(self, job: str) -> list[str]:
        """What each instance of a job has logged."""
        nomad = Nomad(self.double.address)
        logs = []
        for allocation in nomad.allocations(f"toy-{job}"):
            with contextlib.suppress(ClusterRefused):  # one that has not started has none
                logs.append(nomad.log(allocation.id, job, "stderr", 100_000))
        return logs


@dataclass(frozen=True)
class Swap:
    """A swap: the new version, seconds to its first answer, and p99 before and during (s)."""

    version: str
    seconds: float
    p99_before: float
    p99_during: float


@contextmanager
def rollout(toy: Toy, folder: Path, way: str, gateways: int = 1) -> Iterator[Rollout]:
    """The toy, registered in one of the three ways, with its first model served."""
    with (
        consul_server(folder / "consul") as consul,
        NomadDouble(
            folder / "nomad", consul=consul.address, consul_template=require("consul-template")
        ) as double,
    ):
        placed = on_cluster(
            toy, double.address, consul.address,
            MLSERVICE_MODELS__RELOAD=way, NOMAD_VAR_gateway_count=str(gateways),
            **task_environment(MLSERVICE_MODELS__RELOAD=way),
        )  # fmt: skip
        register(placed)
        Rollout(placed, double, consul, "").publish(1)
        url: str = eventually(lambda: gateway_urls(consul.address), _PATIENCE)[0]
        found = Rollout(placed, double, consul, url)
        # A version that is registered during a deployment stops the canaries of the one before.
        found.settle()
        yield found


def _only(load: Load, version: str) -> bool:
    """Whether a second's answers all came from ``version``."""
    lately = [a for a in list(load.answers[-2000:]) if a.sent > time.monotonic() - 1.0]
    return len(lately) > 20 and all(answer.version == version for answer in lately)


def gateway_urls(consul: str) -> list[str]:
    """The URLs of the gateways that pass their checks."""
    query = f"http://{consul}/v1/health/service/toy-gateway?passing"
    with urllib.request.urlopen(query, timeout=5) as answer:
        found = json.loads(answer.read())
    services = [entry["Service"] for entry in found]
    return [f"http://{each['Address'] or '127.0.0.1'}:{each['Port']}" for each in services]
