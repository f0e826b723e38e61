"""``mlservice clients list|add|remove|history``."""

from __future__ import annotations

import argparse
import secrets
from collections.abc import Mapping
from typing import Any

from mlservice.cli.audit_options import add_history, add_reason, changed, open_control, who
from mlservice.cli.common import read_settings, table
from mlservice.errors import SettingsError

_TOKEN_BYTES = 32


def add_parser(verbs: Any) -> None:
    """Add the verb to the command line."""
    parser = verbs.add_parser("clients", help="who may ask the gateways, and how often")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    listing = commands.add_parser("list", help="all of them")
    listing.set_defaults(run=_list)
    add = commands.add_parser("add", help="let one in, and print its token, which is kept nowhere")
    add.add_argument(
        "--per-second", type=float, metavar="N", help="requests that one gateway takes"
    )
    add.add_argument("--burst", type=int, metavar="N", help="... and at once (default: a second's)")
    add.set_defaults(run=_add)
    remove = commands.add_parser("remove", help="shut one out")
    remove.set_defaults(run=_remove)
    for command in (add, remove):
        command.add_argument("name", metavar="NAME")
        add_reason(command)
    add_history(commands, "clients")


def _list(_: argparse.Namespace, environ: Mapping[str, str]) -> int:
    from mlservice.deploy.operator_settings import read_clients

    clients = read_clients(open_control(read_settings(environ), environ, "clients"))
    if clients is None:
        print("none: everybody is let in, unless [access] required = true")
        return 0
    rows = [
        (name, "any" if c.per_second is None else f"{c.per_second:g}", c.token_sha256[:12])
        for name, c in sorted(clients.items())
    ]
    print(table(("client", "per second", "SHA-256 of its token"), rows))
    return 0


def _add(arguments: argparse.Namespace, environ: Mapping[str, str]) -> int:
    from mlservice.deploy.operator_settings import set_client
    from mlservice.live import Client, digest

    token = secrets.token_urlsafe(_TOKEN_BYTES)
    try:
        client = Client(
            token_sha256=digest(token.encode()),
            per_second=arguments.per_second,
            burst=arguments.burst,
        )
    except ValueError as error:
        raise SettingsError(
            f"--per-second {arguments.per_second} --burst {arguments.burst}: give numbers above 0"
        ) from error
    control = open_control(read_settings(environ), environ, "clients")
    set_client(control, arguments.name, client, who(arguments, environ), arguments.why)
    print(f"{arguments.name} may send: Authorization: Bearer {token}")
    return 0


def _remove(arguments: argparse.Namespace, environ: Mapping[str, str]) -> int:
    from mlservice.deploy.operator_settings import set_client

    control = open_control(read_settings(environ), environ, "clients")
    done = set_client(control, arguments.name, None, who(arguments, environ), arguments.why)
    return changed(arguments.name, done)
