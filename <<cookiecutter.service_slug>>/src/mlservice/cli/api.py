"""``mlservice api show|changes``: what the service promises, and what changed of it."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from mlservice.cli.common import read_settings, table

if TYPE_CHECKING:
    from mlservice.api import Comparison


def add_parser(verbs: Any) -> None:
    """Add the verb to the command line."""
    parser = verbs.add_parser("api", help="show what the service promises, and what changed of it")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    show = commands.add_parser("show", help="print the OpenAPI document")
    show.set_defaults(run=_show)
    text = "compare the contracts with the last release's; fails where a change breaks others"
    changes = commands.add_parser("changes", help=text)
    changes.add_argument("--since", metavar="TAG", help="the release to compare with (the last)")
    changes.set_defaults(run=_changes)


def _show(_: argparse.Namespace, environ: Mapping[str, str]) -> int:
    from mlservice.gateway.openapi import read_document

    print(json.dumps(read_document(read_settings(environ)), indent=2, ensure_ascii=False))
    return 0


def _changes(arguments: argparse.Namespace, environ: Mapping[str, str]) -> int:
    from mlservice.api import compare_with_release

    folder = read_settings(environ).folder
    found = compare_with_release(folder, environ, arguments.since)
    print(_report(found))
    return 0 if found.allowed else 1


def _report(found: Comparison) -> str:
    if not found.since:
        return "there is no release yet (no tag such as v0.1.0): nothing is promised to anybody"
    rows = [
        (f"{side}.schema.json", change.place, change.what, _verdict(change.breaks))
        for side, changes in found.changes.items()
        for change in changes
    ]
    lines = [table(("contract", "place", "change", "verdict"), rows)] if rows else []
    lines += [f"{side}.schema.json is new since {found.since}" for side in found.new]
    return "\n".join([*lines, _conclusion(found)])


def _verdict(breaks: str) -> str:
    return f"breaking: {breaks}" if breaks else "compatible"


def _conclusion(found: Comparison) -> str:
    step = f"{found.since} -> {found.version}"
    if not found.breaking:
        return f"{step}: nobody who relies on {found.since} is broken"
    if found.allowed:
        return f"{step}: breaking changes, as the version says"
    return (
        f"{step}: breaking changes need a greater major number (before 1.0.0 a greater minor one): "
        "raise version in pyproject.toml, or change the contracts in another way"
    )
