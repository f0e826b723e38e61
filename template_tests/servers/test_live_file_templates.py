"""The live files as Nomad's own template engine renders them, from what a real Consul knows."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import pytest

from mlservice.jobspec import parse_job
from mlservice.live import FlagSet, Live, ModelRecord, read_live
from mlservice.policies import CanaryPolicy
from template_tests.support.cluster import render_nomad
from template_tests.support.servers import Consul, consul_server, require

pytestmark = pytest.mark.servers
RECORD = ModelRecord(
    uri="s3://models/toy/a",
    sha256="0" * 64,
    version="20240102T000000-0a1b2c3d",
    metrics={"loss": 0.25},
    created=datetime(2024, 1, 2, tzinfo=UTC),
    period="2024-01-02T00:00:00",
)


@pytest.fixture
def consul(tmp_path: Path) -> Iterator[Consul]:
    with consul_server(tmp_path / "consul") as server:
        yield server


def put(consul: Consul, path: str, body: Any) -> None:
    data = body.encode() if isinstance(body, str) else json.dumps(body).encode()
    request = Request(f"http://{consul.address}/v1/{path}", data, method="PUT")
    with urlopen(request, timeout=5):
        pass


def register_worker(consul: Consul, name: str, port: int, status: str, **meta: str) -> None:
    check = {"TTL": "60s", "Status": status}
    worker = {"ID": name, "Name": "toy-worker", "Address": "10.0.0.7", "Port": port, "Check": check}
    worker["Meta"] = meta
    put(consul, "agent/service/register", worker)


def rendered(consul: Consul, folder: Path, job: str, **environ: str) -> Live:
    """The live file of a job, rendered once and read as the job's process reads it."""
    return read_live(render(consul, folder, template(folder, job), **environ))


def addresses(live: Live) -> list[str]:
    return [worker.address for worker in live.workers or ()]


def template(folder: Path, job: str, variables: str = "") -> str:
    render_nomad(folder / "nomad", service_slug="toy")
    hcl = (folder / "nomad" / f"{job}.nomad.hcl").read_text("utf-8")
    task = parse_job(hcl, variables, "2.0.5")["TaskGroups"][0]["Tasks"][0]
    found: str = task["Templates"][0]["EmbeddedTmpl"]
    return found


def render(consul: Consul, folder: Path, text: str, **environ: str) -> Path:
    source, target = folder / "live.ctmpl", folder / "live.json"
    source.write_text(text, "utf-8")
    command = [require("consul-template"), "-once", "-consul-addr", consul.address]
    subprocess.run(
        [*command, "-template", f"{source}:{target}"], check=True, timeout=20, env=environ
    )
    return target


def test_a_gateway_is_told_only_of_workers_that_pass_their_checks(
    consul: Consul, tmp_path: Path
) -> None:
    assert rendered(consul, tmp_path, "gateway").workers == ()
    register_worker(consul, "one", 2001, "passing")
    assert addresses(rendered(consul, tmp_path, "gateway")) == ["10.0.0.7:2001"]
    register_worker(consul, "two", 2002, "passing")
    register_worker(consul, "sick", 2003, "critical")
    register_worker(consul, "doubtful", 2004, "warning")
    found = addresses(rendered(consul, tmp_path, "gateway"))
    assert found == ["10.0.0.7:2001", "10.0.0.7:2002"]


def test_a_gateway_is_told_of_versions_routing_toggles_and_upstreams(
    consul: Consul, tmp_path: Path
) -> None:
    before = rendered(consul, tmp_path, "gateway")
    assert (before.routing, before.toggles, before.upstreams) == (None, None, {})
    register_worker(consul, "one", 2001, "passing")
    register_worker(consul, "two", 2002, "passing", version="canary")
    for name, port in (("w1", 3001), ("w2", 3002)):
        weather = {"ID": name, "Name": "weather-service", "Address": "10.0.0.9", "Port": port}
        put(consul, "agent/service/register", weather)
    policy = {"policy": "canary", "share": 0.1}
    flags = {
        "flags": {"new": {"state": "ENABLED", "variants": {"on": True}, "defaultVariant": "on"}}
    }
    put(consul, "kv/mlservice/toy/routing", policy)
    put(consul, "kv/mlservice/toy/toggles", flags)
    text = template(
        tmp_path, "gateway", 'upstreams = { weather = "weather-service", other = "absent" }\n'
    )
    live = read_live(render(consul, tmp_path, text))
    assert [(w.address, w.version) for w in live.workers or ()] == [
        ("10.0.0.7:2001", "stable"),
        ("10.0.0.7:2002", "canary"),
    ]
    assert live.routing == CanaryPolicy(policy="canary", share=0.1)
    assert live.toggles == FlagSet.model_validate(flags)
    assert live.upstreams == {
        "weather": ("http://10.0.0.9:3001", "http://10.0.0.9:3002"),
        "other": (),
    }


def test_workers_of_another_version_have_a_job_and_a_model_of_their_own(
    consul: Consul, tmp_path: Path
) -> None:
    render_nomad(tmp_path / "nomad", service_slug="toy")
    hcl = (tmp_path / "nomad" / "worker.nomad.hcl").read_text("utf-8")
    job = parse_job(hcl, 'serves = "challenger"\n', "2.0.5")
    service = job["TaskGroups"][0]["Services"][0]
    assert (job["ID"], job["Name"]) == ("toy-worker-challenger", "toy-worker-challenger")
    assert service["Name"] == "toy-worker"
    assert service["Meta"] == {"version": "challenger"}
    assert service["CanaryMeta"] == {"version": "challenger-canary"}
    put(consul, "kv/mlservice/toy/versions/challenger/model", RECORD.encode())
    text = template(tmp_path, "worker", 'serves = "challenger"\n')
    assert read_live(render(consul, tmp_path, text)).model == RECORD
    assert rendered(consul, tmp_path, "worker").model is None


def test_a_worker_is_told_of_no_model_and_then_of_the_published_one(
    consul: Consul, tmp_path: Path
) -> None:
    assert rendered(consul, tmp_path, "worker").model is None
    put(consul, "kv/mlservice/toy/model", "null")
    assert rendered(consul, tmp_path, "worker").model is None
    put(consul, "kv/mlservice/toy/model", RECORD.encode())
    assert rendered(consul, tmp_path, "worker").model == RECORD


def test_a_worker_of_a_rollout_is_told_by_its_job(consul: Consul, tmp_path: Path) -> None:
    text = template(tmp_path, "worker", 'reload = "rolling"\n')
    live = read_live(render(consul, tmp_path, text, NOMAD_META_model=RECORD.encode()))
    assert live.model == RECORD


def test_a_key_without_a_default_would_block_for_ever(consul: Consul, tmp_path: Path) -> None:
    text = template(tmp_path, "worker").replace(
        'keyOrDefault "mlservice/toy/model" "null"', 'key "x"'
    )
    assert '{{ key "x" }}' in text
    (tmp_path / "live.ctmpl").write_text(text, "utf-8")
    command = [require("consul-template"), "-once", "-consul-addr", consul.address]
    files = f"{tmp_path / 'live.ctmpl'}:{tmp_path / 'live.json'}"
    with pytest.raises(subprocess.TimeoutExpired):
        subprocess.run([*command, "-template", files], check=True, timeout=3)
    assert not (tmp_path / "live.json").exists()
