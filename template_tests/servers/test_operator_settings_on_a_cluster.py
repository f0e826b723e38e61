"""What an operator sets in Consul reaches every gateway of a cluster within ten seconds."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from template_tests.support.cluster import eventually
from template_tests.support.live_toy import wait_for
from template_tests.support.rollout import Rollout, gateway_urls, rollout
from template_tests.support.toy_service import MakeToy

pytestmark = pytest.mark.servers
_LIMIT = 10.0


def answer(url: str) -> dict[str, Any]:
    body = json.dumps({"x": 0.8}).encode()
    try:
        with urllib.request.urlopen(f"{url}/v1/predict", body, timeout=5) as response:
            found: dict[str, Any] = json.loads(response.read())
            return found
    except urllib.error.HTTPError as error:
        with error:
            return {"status": error.code}


def run(world: Rollout, *words: str, **environ: str) -> str:
    done = world.toy.run(*words, **environ)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def everywhere(urls: list[str], holds: Callable[[dict[str, Any]], bool]) -> None:
    """Wait until it holds for the answers of every gateway, ten seconds at most."""
    wait_for(lambda: all(holds(answer(url)) for url in urls for _ in range(5)), _LIMIT)


def test_toggles_routing_and_a_second_version_reach_every_gateway(
    make_toy: MakeToy, tmp_path: Path
) -> None:
    with rollout(make_toy(), tmp_path, "watch", gateways=2) as world:
        urls: list[str] = eventually(
            lambda: found if len(found := gateway_urls(world.consul.address)) == 2 else None, 60
        )
        everywhere(urls, lambda found: found["prediction"]["score"] == 0.8)
        run(world, "toggles", "set", "zero", "--percent", "100", "--why", "try")
        everywhere(urls, lambda found: found["prediction"]["score"] == 0)
        run(world, "toggles", "off", "zero", "--why", "stop")
        everywhere(urls, lambda found: found["prediction"]["score"] == 0.8)

        second = {"MLSERVICE_MODELS__SERVES": "challenger"}
        run(world, "routing", "set", "--weights", "stable=1,challenger=0", "--why", "not yet")
        run(world, "deploy", "register", "--only", "services", **second)
        local = {"MLSERVICE_PIPELINE__EXECUTOR": "local"}
        train = ("pipeline", "run", "--period", "2024-01-02T03", "--publish", "--set", "slope=0.5")
        run(world, *train, **second, **local)
        assert "toy-worker-challenger" in run(world, "deploy", "status")
        eventually(lambda: challengers(world), 120)
        everywhere(urls, lambda found: found["prediction"]["score"] == 0.8)
        # Consul may know a worker a moment before a gateway does: so some of the requests first.
        run(world, "routing", "set", "--weights", "stable=1,challenger=1", "--why", "some")
        for url in urls:
            wait_for(partial(is_scored, url, 0.4), _LIMIT)
        run(world, "routing", "set", "--weights", "stable=0,challenger=1", "--why", "all")
        everywhere(urls, lambda found: found["prediction"]["score"] == 0.4)
        run(world, "routing", "clear", "--why", "both")
        everywhere(urls, lambda found: "prediction" in found)


def is_scored(url: str, score: float) -> bool:
    return bool(answer(url)["prediction"]["score"] == score)


def challengers(world: Rollout) -> bool:
    """Whether Consul knows a healthy worker of the second version."""
    query = f"http://{world.consul.address}/v1/health/service/toy-worker?passing"
    with urllib.request.urlopen(query, timeout=5) as found:
        metas = [entry["Service"]["Meta"] for entry in json.loads(found.read())]
    return any(meta.get("version") == "challenger" for meta in metas)
