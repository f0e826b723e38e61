"""``mlservice demo``: prints what the demo shows."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from typing import Any

from mlservice.cli.common import read_settings, table
from mlservice.demo.run import run_demo
from mlservice.observe.logs import log_as_text
from mlservice.progress import SILENT


def add_parser(verbs: Any) -> None:
    """Add the verb to the command line."""
    parser = verbs.add_parser("demo", help="train, serve, predict real cases and show the result")
    parser.add_argument("--keep", action="store_true", help="leave it running until Ctrl-C")
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace, environ: Mapping[str, str]) -> int:
    log_as_text()
    run_demo(read_settings(environ), environ, _Printed(), SILENT, keep=arguments.keep)
    return 0


class _Printed:
    """Prints the demo's report."""

    def step(self, number: int, title: str) -> None:
        print(f"\n{number}. {title}", flush=True)

    def line(self, text: str) -> None:
        print(f"  {text}", flush=True)

    def table(self, header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        for line in table(header, rows).splitlines():
            print(f"  {line}", flush=True)

    def command(self, text: str) -> None:
        print(text, flush=True)
