"""Measures what a new model costs callers, by each way to reload, on Consul and Nomad's double.

It needs the commands of ``tools/servers.sh consul consul_template`` on the PATH.
"""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path
from statistics import median

from bench.errors import BenchError
from bench.report import Figure, table
from bench.workplace import ROOT, environment
from template_tests.support.load import Load
from template_tests.support.rollout import BODIES, Swap, rollout
from template_tests.support.toy_service import TOY, Toy

_SWAPS = 3
_RATE = 200.0
_BEFORE_SECONDS = 10.0


def measure_reload(folder: Path) -> list[Figure]:
    """Measure failed requests, and the slowest requests while a model is swapped."""
    if not shutil.which("consul") or not shutil.which("consul-template"):
        raise BenchError(
            "consul or consul-template is missing: run "
            '`PATH="$(tools/servers.sh consul consul_template):$PATH" make bench ONLY=reload`'
        )
    rows, figures = [], []
    for way in ("watch", "signal", "rolling"):
        load, swaps = _swap(folder / way, way)
        failed, ratios = load.failures.total(), tuple(s.p99_during / s.p99_before for s in swaps)
        seconds = tuple(swap.seconds for swap in swaps)
        rows.append(
            (
                way,
                f"{len(load.answers):,}",
                str(failed),
                f"{median(seconds):.1f}",
                f"{median(s.p99_before for s in swaps) * 1000:.1f}",
                f"{median(s.p99_during for s in swaps) * 1000:.1f}",
            )
        )
        figures.append(Figure(f"{way}: requests that failed", (float(failed),), 0, False, ""))
        figures.append(Figure(f"{way}: p99 during a swap / before", ratios, 1.5, False))
    header = ("", "requests", "failed", "s to the first answer", "p99 ms before", "during")
    print(f"\nRELOAD, {_RATE:.0f} req/s, {_SWAPS} swaps each\n{table(header, rows)}", flush=True)
    return figures


def _swap(folder: Path, way: str) -> tuple[Load, list[Swap]]:
    place = folder / "toy"
    shutil.copytree(TOY, place)
    source = ROOT / "<<cookiecutter.service_slug>>" / "src"
    path = os.pathsep.join((str(source), str(place / "src")))
    toy = Toy(place, environment({"PYTHONPATH": path}))
    with rollout(toy, folder, way) as world, Load(world.url, BODIES, rate=_RATE) as load:
        time.sleep(_BEFORE_SECONDS)
        swaps = [world.swap(hour, load) for hour in range(2, 2 + _SWAPS)]
    return load, swaps
