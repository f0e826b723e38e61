"""`make demo CLUSTER=1`: a service on Consul and a double of Nomad, from its hook to a rollback.

Consul and consul-template are real. The double of Nomad runs its tasks as real processes. The
service is rendered into ``.demo/cluster``, and everything that is started is stopped at the end.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from mlservice.cluster import Nomad
from nomad_double import NomadDouble
from template_tests.support.load import Load
from template_tests.support.servers import consul_server, free_ports, require

ROOT = Path(__file__).resolve().parent.parent
SLUG = "flight-delay"
FIRST, SECOND = "2013-10-07", "2013-10-14"
_TIMEOUT_SECONDS = 300.0


def main() -> int:
    """Run the demo; returns its exit code."""
    folder = ROOT / ".demo" / "cluster"
    service = folder / SLUG
    shutil.rmtree(folder / "servers", ignore_errors=True)
    _say("Starting Consul, and a double of Nomad that runs tasks as processes")
    with (
        consul_server(folder / "servers" / "consul") as consul,
        NomadDouble(
            folder / "servers" / "nomad",
            consul=consul.address,
            consul_template=require("consul-template"),
        ) as double,
    ):
        environ = _environment(service, double.address, consul.address)
        print(f"  NOMAD_ADDR={double.address} CONSUL_HTTP_ADDR={consul.address}")
        _render(folder, service, environ)
        _run_pipeline(service, environ, double, FIRST)
        url = _wait(lambda: _gateway(consul.address), "the gateway and its workers are ready")
        with Load(url, _bodies(service, environ)) as load:
            _swap_and_roll_back(service, environ, double, load)
        _print_totals(load)
        print(_indented(_mlservice(service, environ, "models", "list")))
        _say("What is registered")
        print(_indented(_mlservice(service, environ, "deploy", "status")))
        print(
            f"\nThe service is in {service.relative_to(ROOT)}; read docs/operations.md there next."
        )
    return 1 if load.failures else 0


def _swap_and_roll_back(
    service: Path, environ: Mapping[str, str], double: NomadDouble, load: Load
) -> None:
    """Publish a newer model, offer an older one, and roll back, while requests go on."""
    first = load.newest
    print(f"  model {first} answers the requests, which go on all the time")
    _run_pipeline(service, environ, double, SECOND)
    started = time.monotonic()
    _wait(lambda: load.newest != first, "another model answers")
    print(f"  ... {time.monotonic() - started:.1f} s after the pipeline ended")
    _say("An older period again, by hand: it is complete, and too old to be published")
    print(_indented(_mlservice(service, environ, *_pipeline(FIRST))))
    _say("Rolling back")
    print(_indented(_mlservice(service, environ, "models", "rollback")))
    _wait(lambda: load.newest == first, "the first model answers again")


def _environment(service: Path, nomad: str, consul: str) -> dict[str, str]:
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("GIT_", "MLSERVICE_"))}
    variables = {
        "driver": "raw_exec",
        "command": str(service / ".venv" / "bin" / "mlservice"),
        "config": str(service / "service.toml"),
        "nomad_address": nomad,
        "consul_address": consul,
        "gateway_count": "1",
        "gateway_port": str(free_ports(1)[0]),
        "shutdown_delay": "3s",
        "stagger_ms": "1000",
    }
    given = {f"NOMAD_VAR_{name}": value for name, value in variables.items()}
    return {
        **kept, **given, "NOMAD_ADDR": nomad, "CONSUL_HTTP_ADDR": consul, "PYTHON": sys.executable,
    }  # fmt: skip


def _render(folder: Path, service: Path, environ: Mapping[str, str]) -> None:
    _say("Rendering a service; its hook installs it and registers it (a minute, once)")
    if service.exists():
        for path in service.iterdir():
            if path.name != ".venv":
                shutil.rmtree(path) if path.is_dir() else path.unlink()
    command = [sys.executable, "-m", "cookiecutter", "--no-input", "--default-config"]
    options = ["--overwrite-if-exists", "--output-dir", str(folder)]
    subprocess.run([*command, *options, str(ROOT)], check=True, env=dict(environ))


def _pipeline(period: str) -> tuple[str, ...]:
    return ("pipeline", "run", "--publish", "--period", period)


def _run_pipeline(
    service: Path, environ: Mapping[str, str], double: NomadDouble, period: str
) -> None:
    _say(f"Dispatching the pipeline of {period}, which dispatches its jobs")
    meta = ("--meta", f"period={period}")
    child = _mlservice(service, environ, "deploy", "dispatch", "pipeline", *meta).strip()
    nomad = Nomad(double.address)

    def ended() -> bool:
        job = nomad.job(child)
        return job is not None and not job.alive

    before = len(nomad.jobs(f"{SLUG}-job-").jobs)
    _wait(ended, f"{child} has ended")
    print(f"  it dispatched {len(nomad.jobs(f'{SLUG}-job-').jobs) - before} jobs")
    log = nomad.log(nomad.allocations(child)[-1].id, "pipeline", "stdout", 2000)
    print(_indented(log))


def _mlservice(service: Path, environ: Mapping[str, str], *arguments: str) -> str:
    """Run the service's own command, which dispatches jobs; returns what it prints."""
    more = {"MLSERVICE_PIPELINE__EXECUTOR": "nomad"}
    command = [str(service / ".venv" / "bin" / "mlservice"), *arguments]
    done = subprocess.run(
        command, cwd=service, env={**environ, **more}, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise SystemExit(f"{' '.join(arguments)} ended with {done.returncode}:\n{done.stderr}")
    return done.stdout


def _gateway(consul: str) -> str | None:
    """The gateway's URL in Consul; None until it and a worker are ready."""
    query = f"http://{consul}/v1/health/service/{SLUG}-gateway?passing"
    with urllib.request.urlopen(query, timeout=5) as answer:
        found: list[dict[str, Any]] = json.loads(answer.read())
    if not found:
        return None
    service = found[0]["Service"]
    return f"http://{service['Address'] or '127.0.0.1'}:{service['Port']}"


def _bodies(service: Path, environ: Mapping[str, str]) -> list[bytes]:
    """Real requests, from the service's samples."""
    code = (
        "import json\nfrom datetime import datetime\nfrom flight_delay.data import samples\n"
        f"for sample in samples(datetime.fromisoformat('{FIRST}'), 50):\n"
        "    print(json.dumps(sample.request))\n"
    )
    python = str(service / ".venv" / "bin" / "python")
    command = [python, "-c", code]
    done = subprocess.run(command, env=dict(environ), capture_output=True, check=True)
    return done.stdout.splitlines()


def _print_totals(load: Load) -> None:
    _say("All requests")
    print(f"  {len(load.answers)} requests, {load.failures.total()} failed")
    for version, count in load.versions.items():
        print(f"  {count:>7} answered by model {version}")
    for words, count in load.failures.items():
        print(f"  {count:>7} {words}")


def _wait(condition: Callable[[], Any], words: str) -> Any:
    end = time.monotonic() + _TIMEOUT_SECONDS
    while time.monotonic() < end:
        if found := condition():
            print(f"  {words}", flush=True)
            return found
        time.sleep(0.2)
    raise SystemExit(f"not within {_TIMEOUT_SECONDS:.0f} s: {words}")


def _say(text: str) -> None:
    print(f"\n* {text}", flush=True)


def _indented(text: str) -> str:
    return "\n".join(f"  {line}" for line in text.rstrip().splitlines())


if __name__ == "__main__":
    sys.exit(main())
