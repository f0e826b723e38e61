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
    parser.add_argument(
        "--data",
        action="append",
        default=[],
        type=_answer,
        metavar="NAME=VALUE",
        help="answer a question that the new version asks anew; may be repeated",
    )
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace, environ: Mapping[str, str]) -> int:
    folder = Path.cwd()
    if arguments.check:
        print(check(folder, environ))
    else:
        print(upgrade(folder, environ, dict(arguments.data)))
    return 0


def _answer(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not name or not equals:
        raise argparse.ArgumentTypeError(f"'{text}' is not NAME=VALUE, such as framework=lightgbm")
    return name, value
