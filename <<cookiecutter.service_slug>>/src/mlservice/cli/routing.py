"""``mlservice routing show|set|clear|history``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

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
from mlservice.cli.options import (
    JsonOption,
    exactly_one,
    number,
    read_json,
    read_pair,
    read_weight,
)
from mlservice.cli.output import print_json

commands = CommandGroup("Choose which version gets which share of the requests.")

_EVEN = "each version has the share of its workers"


@commands.command("show", example="mlservice routing show")
def show(context: typer.Context, as_json: JsonOption = False) -> None:
    """Show the routing policy that is set, as JSON."""
    from mlservice.deploy.operator_settings import read_policy

    policy = read_policy(open_setting(context, "routing"))
    if policy is None and not as_json:
        print(f"none: {_EVEN}")
    else:
        print_json(policy and policy.model_dump(mode="json"))


@commands.command(
    "set",
    example='mlservice routing set --weights stable=90,challenger=10 --why "try the challenger"',
)
def set_policy(
    context: typer.Context,
    why: ReasonOption,
    weights: Annotated[
        str | None,
        typer.Option(metavar="VERSION=W,...", help="Weights, such as stable=90,challenger=10."),
    ] = None,
    canary: Annotated[
        float | None,
        typer.Option(metavar="SHARE", parser=number(), help="The canaries' share, from 0 to 1."),
    ] = None,
    file: Annotated[
        Path | None, typer.Option(metavar="FILE", help="A file with any policy, as JSON.")
    ] = None,
    salt: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="The experiment's name; another name assigns the users to versions again.",
        ),
    ] = None,
    by: AuthorOption = None,
) -> None:
    """Set the routing policy.

    Give weights, a share for canaries, or a file with any policy.
    """
    from mlservice.deploy.operator_settings import decode_policy
    from mlservice.deploy.operator_settings import set_policy as change_policy

    exactly_one(context, weights=weights, canary=canary, file=file)
    policy = decode_policy(_wanted(weights, canary, file, salt), "the routing")
    setting = open_setting(context, "routing")
    changed = change_policy(setting, policy, author(by, environ_of(context)), why)
    print_change("routing", changed=changed)


@commands.command("clear", example='mlservice routing clear --why "the experiment is over"')
def clear(context: typer.Context, why: ReasonOption, by: AuthorOption = None) -> None:
    """Remove the routing policy.

    Each version then has the share of its workers.
    """
    from mlservice.deploy.operator_settings import set_policy as change_policy

    setting = open_setting(context, "routing")
    changed = change_policy(setting, None, author(by, environ_of(context)), why)
    print_change("routing", changed=changed)


@commands.command("history", example="mlservice routing history")
def history(context: typer.Context, as_json: JsonOption = False) -> None:
    """Show who changed the routing, when and why."""
    print_history(context, "routing", None, as_json=as_json)


def _wanted(weights: str | None, canary: float | None, file: Path | None, salt: str | None) -> Any:
    """Return the policy that the options stand for, as JSON."""
    found: Any
    if file is not None:
        found = read_json("--file", file)
    elif weights is not None:
        pairs = [read_pair("--weights", part) for part in weights.split(",")]
        shares = {name: read_weight("--weights", name, text) for name, text in pairs}
        found = {"policy": "weights", "weights": shares}
    else:
        found = {"policy": "canary", "share": canary}
    if salt is not None and isinstance(found, dict):
        found["salt"] = salt
    return found
