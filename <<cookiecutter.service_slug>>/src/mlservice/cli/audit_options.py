"""What commands that change operator settings share: who changes it, why, and the history."""

from __future__ import annotations

import getpass
import json
import socket
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mlservice.cli.group import environ_of, settings_of
from mlservice.cli.output import print_json, print_table
from mlservice.errors import SettingsError

if TYPE_CHECKING:
    from mlservice.deploy.operator_settings import AuditEntry, OperatorSetting

_MAX_SHOWN = 100

ReasonOption = Annotated[
    str, typer.Option("--why", metavar="REASON", help="The reason, for the history.")
]
AuthorOption = Annotated[
    str | None,
    typer.Option(
        "--by", metavar="NAME", help="Who changes it (default: GITLAB_USER_EMAIL, else you)."
    ),
]


def open_setting(context: typer.Context, name: str) -> OperatorSetting:
    """Open the operator setting ``name`` of this service, in Consul."""
    from mlservice.cluster import open_consul
    from mlservice.deploy.operator_settings import OperatorSetting

    settings = settings_of(context)
    consul = open_consul(settings.consul, environ_of(context))
    return OperatorSetting(consul, settings.service.name, name)


def author(given: str | None, environ: Mapping[str, str]) -> str:
    """Who makes the change; raises ``SettingsError`` if that is unknown."""
    if named := given or environ.get("GITLAB_USER_EMAIL"):
        return named
    try:
        return f"{getpass.getuser()}@{socket.gethostname()}"
    except (KeyError, OSError):  # a container whose user has no name
        raise SettingsError("--by is missing, and the user has no name: give --by NAME") from None


def print_change(what: str, *, changed: bool) -> None:
    """Say whether the setting changed."""
    print(f"{what}  {'is set' if changed else 'is unchanged'}")


def print_history(context: typer.Context, setting: str, name: str | None, *, as_json: bool) -> None:
    """Print the changes of an operator setting, or of one ``name`` in it, the newest first."""
    changes = [
        change for change in open_setting(context, setting).history() if name in (None, change.what)
    ]
    if as_json:
        print_json([_as_dict(change) for change in changes])
    else:
        print_table(("at (UTC)", "by", "what", "why", "from then on"), _rows(changes))


def _rows(changes: Sequence[AuditEntry]) -> list[tuple[str, ...]]:
    return [
        (f"{change.at:%Y-%m-%d %H:%M:%S}", change.by, change.what, change.why, _short(change.text))
        for change in changes
    ]


def _as_dict(change: AuditEntry) -> dict[str, Any]:
    return {
        "at": change.at.isoformat(),
        "by": change.by,
        "name": change.what,
        "why": change.why,
        "value": _decoded(change.text),
    }


def _decoded(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def _short(text: str) -> str:
    return text if len(text) <= _MAX_SHOWN else f"{text[:_MAX_SHOWN]}…"
