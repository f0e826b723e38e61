"""Runs the double as a program until SIGTERM or SIGINT.

A demo, or a service in any language, needs no test process then: it only needs the address.
"""

from __future__ import annotations

import argparse
import signal
import sys
import threading
from pathlib import Path

from nomad_double import NomadDouble


def main(arguments: list[str]) -> int:
    """Print the address, then serve. Returns the exit code."""
    parser = argparse.ArgumentParser(prog="nomad-double")
    parser.add_argument("--folder", type=Path, required=True, help="folder of the allocations")
    parser.add_argument("--port", type=int, default=0, help="port to listen on; 0 takes a free one")
    parser.add_argument(
        "--consul", metavar="HOST:PORT", help="Consul agent that services are registered in"
    )
    parser.add_argument("--consul-template", metavar="PATH", help="program that renders templates")
    parser.add_argument("--version", default="1.10.5", help="version of Nomad to behave like")
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
