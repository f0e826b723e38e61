"""Runs the bench: parse, measure, print."""

from __future__ import annotations

import os
import platform
import signal
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import FrameType

from bench.errors import BenchError
from bench.load import require_wrk
from bench.options import Options, read_options
from bench.peers import measure_peers
from bench.pipeline import measure_pipeline
from bench.reload import measure_reload
from bench.render import measure_rendering
from bench.report import Figure, print_figures, table
from bench.serving import measure_serving, measure_workers
from bench.workplace import Workplace, copy_template, make_workplace, run, service_environment

_SERVED = {"stages", "throughput", "tail", "latency", "workers", "peers"}


def main(argv: Sequence[str], environ: Mapping[str, str]) -> int:
    """Measure what the options say; returns the exit code.

    A figure that misses its bar is not an error, because a shared machine may be the cause.
    """
    options = read_options(argv, environ)
    signal.signal(signal.SIGTERM, _terminate)
    try:
        require_wrk()
        with tempfile.TemporaryDirectory(prefix="bench-") as folder:
            print_figures(_measure(Path(folder), options))
    except BenchError as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("bench: interrupted; all its processes are stopped", file=sys.stderr)
        return 130
    return 0


def _measure(folder: Path, options: Options) -> list[Figure]:
    print(f"Python {platform.python_version()}, {os.cpu_count()} cores, {options.rounds} rounds")
    figures: list[Figure] = []
    template = copy_template(folder / "template")
    if _SERVED & set(options.only):
        figures += _measure_service(make_workplace(folder, template), options)
    if "rendering" in options.only:
        figures += measure_rendering(folder, template, options.rounds)
    if "pipeline" in options.only:
        figures += measure_pipeline(folder, options.rounds)
    if "reload" in options.only:
        figures += measure_reload(folder)
    return figures


def _measure_service(place: Workplace, options: Options) -> list[Figure]:
    figures: list[Figure] = []
    if "stages" in options.only:
        _print_stages(place)
    if {"throughput", "tail", "latency"} & set(options.only):
        figures += measure_serving(place, options)
    if "workers" in options.only:
        figures += measure_workers(place, options)
    if options.peers and "peers" in options.only:
        figures += measure_peers(place, options)
    return figures


def _print_stages(place: Workplace) -> None:
    command = [sys.executable, "-m", "bench.stages", str(place.folder)]
    lines = run(command, place.service, service_environment(place.service, {}))
    rows = [tuple(line.split("\t")) for line in lines.splitlines()]
    print(f"\nSTAGES, microseconds a call\n{table(('', 'us'), rows)}", flush=True)


def _terminate(number: int, _: FrameType | None) -> None:
    """Exit by an exception, so that all processes of the bench are stopped."""
    sys.exit(128 + number)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], os.environ))
