"""Measures what a pipeline costs besides its jobs: large grids, and publishing an artifact."""

from __future__ import annotations

import base64
import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import requests

from bench.noop import SERVICE, make, manifest
from bench.report import Figure, table
from bench.workplace import ROOT, environment, run
from mlservice.artifacts import open_store, publish
from mlservice.cluster import Nomad
from mlservice.jobs import JobCall
from mlservice.jobs.nomad_executor import parent_name
from nomad_double import NomadDouble, TaskContext

_FEW, _SMALL, _LARGE = 200, 2_000, 20_000
_DISPATCHED = 2_000
_POOL_HERE, _POOL_DISPATCHED = 4, 64
_BYTES = 100 * 1024 * 1024
Result = dict[str, Any]


def measure_pipeline(folder: Path, rounds: int) -> list[Figure]:
    """Measure the figures on pipelines, each over ``rounds`` runs."""
    runs: dict[str, list[Result]] = {
        "few": [],
        "small": [],
        "large": [],
        "again": [],
        "again_large": [],
    }
    for number in range(rounds):
        for name, count in (("few", _FEW), ("small", _SMALL), ("large", _LARGE)):
            place = folder / f"{name}-{number}"
            runs[name].append(_grid(count, place) | {"count": count})
            if name != "few":
                again = _grid(count, place) | {"count": count}
                runs["again" if name == "small" else "again_large"].append(again)
            shutil.rmtree(place)
    dispatched = [_dispatched(folder / f"nomad-{number}") for number in range(rounds)]
    copies = [_published(folder) for _ in range(rounds)]
    _print(runs, dispatched)
    return [*_embedded_figures(runs), *_dispatched_figures(dispatched), _publish_figure(copies)]


def _embedded_figures(runs: dict[str, list[Result]]) -> list[Figure]:
    small, large = _rates(runs["small"]), _rates(runs["large"])
    spread = tuple(max(a, b) / min(a, b) for a, b in zip(small, large, strict=True))
    peaks = tuple(
        large["peak_mb"] / few["peak_mb"]
        for few, large in zip(runs["few"], runs["large"], strict=True)
    )
    again = tuple(result["seconds"] for result in runs["again"])
    return [
        Figure("grid of 2,000, embedded", small, 500, True, "/s"),
        Figure("grid of 20,000, embedded", large, 500, True, "/s"),
        Figure("2,000 and 20,000 apart by", spread, 1.3, False),
        Figure("peak memory at 20,000 / at 200", peaks, 1.5, False),
        Figure("2,000 again, all complete", again, 2, False, "s"),
    ]


def _dispatched_figures(dispatched: list[Result]) -> list[Figure]:
    calls = tuple(result["calls"] / result["ran"] for result in dispatched)
    rates = tuple(result["ran"] / result["seconds"] for result in dispatched)
    limit = median(result["limit"] for result in dispatched)
    note = f"the double alone takes {limit:,.0f}/s"
    return [
        Figure("grid of 2,000, dispatched", rates, 200, True, "/s", note),
        Figure("API calls a job", calls, 3, False, ""),
    ]


def _publish_figure(pairs: list[tuple[float, float]]) -> Figure:
    values = tuple(published / copied for published, copied in pairs)
    return Figure("publish 100 MB / a plain copy", values, 1.5, False)


def _grid(count: int, folder: Path, nomad: str | None = None) -> Result:
    pool = _POOL_DISPATCHED if nomad else _POOL_HERE
    command = [sys.executable, "-m", "bench.noop", str(count), str(pool), str(folder)]
    output = run(
        [*command, *([nomad] if nomad else [])], ROOT, environment({"PYTHONPATH": _path()})
    )
    found: Result = json.loads(output.splitlines()[-1])
    return found


def _dispatched(folder: Path) -> Result:
    """Run a grid on the double of Nomad, whose tasks are calls in its own process."""
    store = open_store((folder / "artifacts").as_uri())

    def no_process(context: TaskContext) -> int:
        make(store, JobCall.decode(context.payload.decode()))
        return 0

    with NomadDouble(folder / "double", run=no_process) as double:
        _register(double)
        before = double.requests.total()
        found = _grid(_DISPATCHED, folder, double.address)
        found["calls"] = double.requests.total() - before
    with NomadDouble(folder / "alone", run=lambda _: 0) as double:
        _register(double)
        found["limit"] = _limit(double)
    shutil.rmtree(folder)
    return found


def _register(double: NomadDouble) -> None:
    name = parent_name(SERVICE, "nothing", 64)
    nomad = Nomad(double.address)
    nomad.register(
        nomad.parse(
            f"""
job "{name}" {{
  type        = "batch"
  datacenters = ["dc1"]
  parameterized {{
    payload       = "required"
    meta_required = ["output"]
    meta_optional = ["attempt"]
  }}
  group "job" {{
    task "job" {{
      driver = "raw_exec"
      config {{ command = "true" }}
      dispatch_payload {{ file = "call.json" }}
      resources {{
        cpu    = 1
        memory = 10
      }}
    }}
  }}
}}
"""
        ),
        0,
    )


def _limit(double: NomadDouble) -> float:
    """Return the dispatches a second that the double accepts from one client."""
    body = {"Payload": base64.b64encode(b"{}").decode(), "Meta": {"output": "x"}}
    url = f"{double.address}/v1/job/{parent_name(SERVICE, 'nothing', 64)}/dispatch"
    count = 500
    with requests.Session() as session:
        started = time.perf_counter()
        for _ in range(count):
            session.post(url, json=body, timeout=10).raise_for_status()
        return count / (time.perf_counter() - started)


def _published(folder: Path) -> tuple[float, float]:
    """Return the seconds to publish 100 MB and to copy them, in turn, on the same file system."""
    source = folder / "source"
    source.mkdir(exist_ok=True)
    if not (source / "data.bin").exists():
        (source / "data.bin").write_bytes(os.urandom(_BYTES))
    with tempfile.TemporaryDirectory(dir=folder) as target:
        store = open_store(Path(target, "store").as_uri())
        call = JobCall(job="nothing", task="Nothing", output="a", code="0")
        published = _timed(lambda: publish(store, "a", source, partial(manifest, call)))
        copied = _timed(lambda: shutil.copy(source / "data.bin", Path(target, "copy.bin")))
    return published, copied


def _timed(action: Callable[[], object]) -> float:
    started = time.perf_counter()
    action()
    return time.perf_counter() - started


def _rates(results: list[Result]) -> tuple[float, ...]:
    return tuple(result["count"] / result["seconds"] for result in results)


def _path() -> str:
    return os.pathsep.join((str(ROOT), str(ROOT / "<<cookiecutter.service_slug>>" / "src")))


def _print(runs: dict[str, list[Result]], dispatched: list[Result]) -> None:
    rows = [
        (
            name,
            f"{median(result['seconds'] for result in results):.2f}",
            f"{median(result['peak_mb'] for result in results):.0f}",
        )
        for name, results in (*runs.items(), ("dispatched", dispatched))
    ]
    print(f"\nPIPELINE, seconds and peak MB\n{table(('', 's', 'MB'), rows)}", flush=True)
