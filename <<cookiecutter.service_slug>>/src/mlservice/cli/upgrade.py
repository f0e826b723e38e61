"""``mlservice upgrade``: takes the newest version of the template."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from mlservice.cli.group import environ_of
from mlservice.cli.options import JsonOption
from mlservice.cli.output import print_json


def upgrade(
    context: typer.Context,
    check: Annotated[
        bool, typer.Option("--check", help="Only say whether an upgrade is due.")
    ] = False,
    data: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=VALUE",
            help="Answer a question that the new version asks; may be repeated.",
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Take the newest version of the template.

    The changes are staged in git and not committed. Nothing changes if an edit of yours is at risk.
    """
    from mlservice.upgrade import compare_versions, take_upgrade

    folder, environ = Path.cwd(), environ_of(context)
    answers = dict(_answer(text) for text in data or ())
    if not check:
        report = take_upgrade(folder, environ, answers)
        print_json({"report": report}) if as_json else print(report)
        return
    versions = compare_versions(folder, environ)
    if as_json:
        print_json(asdict(versions))
    else:
        print(versions.describe())


def _answer(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not name or not equals:
        raise typer.BadParameter(
            f"'{text}' is not NAME=VALUE, such as framework=lightgbm", param_hint="'--data'"
        )
    return name, value
