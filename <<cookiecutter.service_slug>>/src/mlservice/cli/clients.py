"""``mlservice clients list|add|remove|history``."""

from __future__ import annotations

from typing import Annotated

import typer

from mlservice.cli.audit_options import (
    AuthorOption,
    ReasonOption,
    author,
    open_setting,
    print_change,
    print_history,
)
from mlservice.cli.group import CommandGroup, environ_of
from mlservice.cli.options import JsonOption, number, whole_number
from mlservice.cli.output import print_json, print_table

commands = CommandGroup("Choose who may send requests, and how many.")

NameArgument = Annotated[str, typer.Argument(metavar="NAME", help="The client's name.")]


@commands.command("list", example="mlservice clients list")
def list_all(context: typer.Context, as_json: JsonOption = False) -> None:
    """List all clients.

    Their tokens are not shown: they are stored nowhere.
    """
    from mlservice.deploy.operator_settings import read_clients

    clients = read_clients(open_setting(context, "clients"))
    if as_json:
        found = sorted((clients or {}).items())
        print_json([{"name": name, **client.model_dump(mode="json")} for name, client in found])
    elif clients is None:
        print("none: everyone may send requests, unless [access] required = true")
    else:
        rows = [
            (name, "any" if c.per_second is None else f"{c.per_second:g}", c.token_sha256[:12])
            for name, c in sorted(clients.items())
        ]
        print_table(("client", "per second", "SHA-256 of its token"), rows)


@commands.command(
    "add", example='mlservice clients add shop --per-second 50 --why "the new web shop"'
)
def add(
    context: typer.Context,
    name: NameArgument,
    why: ReasonOption,
    per_second: Annotated[
        float | None,
        typer.Option(
            metavar="N", parser=number(), help="Requests each second that one gateway accepts."
        ),
    ] = None,
    burst: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            parser=whole_number(1),
            help="Requests that it accepts at once (default: as many as in a second).",
        ),
    ] = None,
    by: AuthorOption = None,
) -> None:
    """Allow a client, and print its token.

    The token is stored nowhere, so pass it on at once.
    """
    from mlservice.deploy.operator_settings import set_client
    from mlservice.live import new_client

    client, token = new_client(per_second, burst)
    setting = open_setting(context, "clients")
    set_client(setting, name, client, author(by, environ_of(context)), why)
    print(f"{name} may send: Authorization: Bearer {token}")


@commands.command("remove", example='mlservice clients remove shop --why "its token leaked"')
def remove(
    context: typer.Context, name: NameArgument, why: ReasonOption, by: AuthorOption = None
) -> None:
    """Refuse a client from now on."""
    from mlservice.deploy.operator_settings import set_client

    setting = open_setting(context, "clients")
    changed = set_client(setting, name, None, author(by, environ_of(context)), why)
    print_change(name, changed=changed)


@commands.command("history", example="mlservice clients history shop")
def history(
    context: typer.Context,
    name: Annotated[
        str | None, typer.Argument(metavar="NAME", help="Only the changes of this client.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Show who changed the clients, when and why."""
    print_history(context, "clients", name, as_json=as_json)
