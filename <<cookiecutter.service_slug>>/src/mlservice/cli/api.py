"""``mlservice api show|changes``: what the service promises, and what changed in it."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mlservice.cli.group import CommandGroup, environ_of, settings_of
from mlservice.cli.options import JsonOption
from mlservice.cli.output import print_json, print_table

if TYPE_CHECKING:
    from mlservice.api import Comparison

commands = CommandGroup("Show the service's API, and what changed in it.")


@commands.command("show", example="mlservice api show")
def show(context: typer.Context, as_json: JsonOption = False) -> None:  # noqa: ARG001  # it is JSON
    """Print the OpenAPI document.

    It is JSON with and without --json.
    """
    from mlservice.gateway.openapi import read_document

    print_json(read_document(settings_of(context)))


@commands.command("changes", example="mlservice api changes --since v1.2.0")
def changes(
    context: typer.Context,
    since: Annotated[
        str | None,
        typer.Option(metavar="TAG", help="The release to compare with (default: the last)."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Compare the contracts with those of the last release.

    Fails with 1 if a change breaks clients and the version does not say so.
    """
    from mlservice.api import compare_with_release

    found = compare_with_release(settings_of(context).folder, environ_of(context), since)
    if as_json:
        print_json(_as_dict(found))
    else:
        _print_report(found)
    if not found.allowed:
        raise typer.Exit(1)


def _as_dict(found: Comparison) -> dict[str, Any]:
    return {
        "since": found.since or None,
        "version": found.version,
        "allowed": found.allowed,
        "breaking": found.breaking,
        "changes": [
            {"contract": f"{side}.schema.json", **asdict(change)}
            for side, changes in found.changes.items()
            for change in changes
        ],
        "new": [f"{side}.schema.json" for side in found.new],
    }


def _print_report(found: Comparison) -> None:
    if not found.since:
        print("there is no release yet (no tag such as v0.1.0), so nothing is promised yet")
        return
    rows = [
        (f"{side}.schema.json", change.place, change.what, _verdict(change.breaks))
        for side, changes in found.changes.items()
        for change in changes
    ]
    if rows:
        print_table(("contract", "place", "change", "verdict"), rows)
    for side in found.new:
        print(f"{side}.schema.json is new since {found.since}")
    print(_conclusion(found))


def _verdict(breaks: str) -> str:
    return f"breaking: {breaks}" if breaks else "compatible"


def _conclusion(found: Comparison) -> str:
    step = f"{found.since} -> {found.version}"
    if not found.breaking:
        return f"{step}: no client of {found.since} breaks"
    if found.allowed:
        return f"{step}: breaking changes, as the version says"
    return (
        f"{step}: breaking changes need a greater major number (before 1.0.0 a greater minor one): "
        "raise version in pyproject.toml, or change the contracts in another way"
    )
