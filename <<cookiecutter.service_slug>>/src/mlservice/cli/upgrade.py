"""``mlservice upgrade``: takes the newest version of the template."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mlservice.upgrade import check, upgrade


def add_parser(verbs: Any) -> None:
    """Add the verb to the command line."""
    parser = verbs.add_parser("upgrade", help="take the newest version of the template")
    parser.add_argument("--check", action="store_true", help="only say whether one is due")
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace, environ: Mapping[str, str]) -> int:
    act = check if arguments.check else upgrade
    print(act(Path.cwd(), environ))
    return 0
