"""What the verbs that change Consul's controls share: who, why, and the table of changes."""

from __future__ import annotations

import argparse
import getpass
import socket
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from mlservice.cli.common import read_settings, table
from mlservice.errors import SettingsError
from mlservice.settings import Settings

if TYPE_CHECKING:
    from mlservice.deploy.operator_settings import Change, Control

_LONGEST = 100


def open_control(settings: Settings, environ: Mapping[str, str], name: str) -> Control:
    """The control ``name`` of this service, in the Consul of the settings."""
    from mlservice.cluster import open_consul
    from mlservice.deploy.operator_settings import Control

    return Control(open_consul(settings.consul, environ), settings.service.name, name)


def add_reason(parser: argparse.ArgumentParser) -> None:
    """Ask for ``--why`` and ``--by``."""
    parser.add_argument("--why", required=True, help="the reason, for the history")
    parser.add_argument("--by", help="who changes it (default: GITLAB_USER_EMAIL, or you)")


def add_history(commands: Any, name: str, *, of_one: bool = True) -> None:
    """Add the verb that shows the changes of the control ``name``, ``of_one`` thing or of all."""

    def run(arguments: argparse.Namespace, environ: Mapping[str, str]) -> int:
        changes = open_control(read_settings(environ), environ, name).history()
        print(_history_table([c for c in changes if arguments.name in (None, c.what)]))
        return 0

    past = commands.add_parser("history", help="who changed what, when and why")
    past.set_defaults(run=run, name=None)
    if of_one:
        past.add_argument("name", metavar="NAME", nargs="?")


def who(arguments: argparse.Namespace, environ: Mapping[str, str]) -> str:
    """Who makes the change."""
    if named := arguments.by or environ.get("GITLAB_USER_EMAIL"):
        return str(named)
    try:
        return f"{getpass.getuser()}@{socket.gethostname()}"
    except (KeyError, OSError):  # a container whose user has no name
        raise SettingsError("who changes it? Say so by --by") from None


def changed(what: str, done: bool) -> int:
    """Say whether something changed; the exit code."""
    print(f"{what}  {'is set' if done else 'was like that already'}")
    return 0


def _history_table(changes: Sequence[Change]) -> str:
    """One line for each change, the newest first."""
    rows = [
        (f"{change.at:%Y-%m-%d %H:%M:%S}", change.by, change.what, change.why, _short(change.text))
        for change in changes
    ]
    return table(("at (UTC)", "by", "what", "why", "from then on"), rows)


def _short(text: str) -> str:
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"
