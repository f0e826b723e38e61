"""Runs the double until SIGTERM or SIGINT: ``python -m nomad_double --folder DIR``."""

from __future__ import annotations

import argparse
import signal
import sys
import threading
from pathlib import Path

from nomad_double import NomadDouble


def main(arguments: list[str]) -> int:
    """Print the address, and serve."""
    parser = argparse.ArgumentParser(prog="nomad-double")
    parser.add_argument("--folder", type=Path, required=True, help="where allocations are kept")
    parser.add_argument("--port", type=int, default=0, help="0: a free one")
    parser.add_argument("--consul", metavar="HOST:PORT", help="where services are registered")
    parser.add_argument("--consul-template", metavar="PATH", help="the program for templates")
    parser.add_argument("--version", default="1.10.5", help="the version of Nomad to be like")
    given = parser.parse_args(arguments)
    ended = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: ended.set())
    with NomadDouble(
        given.folder,
        port=given.port,
        version=given.version,
        consul=given.consul,
        consul_template=given.consul_template,
    ) as double:
        print(double.address, flush=True)
        ended.wait()
    return 0


def entry_point() -> int:
    """Run the double with the arguments of the command line."""
    return main(sys.argv[1:])


if __name__ == "__main__":
    sys.exit(entry_point())
