"""``mlservice toggles list|show|set|on|off|history``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

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
from mlservice.cli.options import JsonOption, exactly_one, read_json, read_pair
from mlservice.cli.output import print_json, print_table
from mlservice.errors import SettingsError

if TYPE_CHECKING:
    from mlservice.deploy.operator_settings import AuditEntry
    from mlservice.live import Flag

commands = CommandGroup("Switch feature toggles and A/B tests of the cluster.")

NameArgument = Annotated[str, typer.Argument(metavar="NAME", help="The toggle's name.")]


def read_percent(text: str) -> float:
    """Read a percentage in steps of 0.001, for typer."""
    from mlservice.deploy.toggle_rules import is_percentage

    try:
        value = float(text)
    except ValueError:
        raise typer.BadParameter(f"'{text}' is not a number") from None
    if not is_percentage(value):
        raise typer.BadParameter(f"'{text}': give 0 to 100, in steps of 0.001")
    return value


@commands.command("list", example="mlservice toggles list")
def list_all(context: typer.Context, as_json: JsonOption = False) -> None:
    """List all toggles, and who changed them last."""
    from mlservice.deploy.operator_settings import read_flags

    setting = open_setting(context, "toggles")
    flags = read_flags(setting).flags
    last = {change.what: change for change in reversed(setting.history())}
    if as_json:
        print_json([_as_dict(name, flag, last.get(name)) for name, flag in flags.items()])
    else:
        header = ("toggle", "", "rule", "last changed by", "at (UTC)", "why")
        print_table(header, [_row(name, flag, last.get(name)) for name, flag in flags.items()])


@commands.command("show", example="mlservice toggles show new-model")
def show(
    context: typer.Context,
    name: NameArgument,
    as_json: JsonOption = False,  # noqa: ARG001  # it is JSON in any case
) -> None:
    """Show one toggle in flagd's format.

    It is JSON with and without --json.
    """
    from mlservice.deploy.operator_settings import read_flags

    flag = read_flags(open_setting(context, "toggles")).flags.get(name)
    if flag is None:
        raise _unknown(name)
    print_json(flag.model_dump(by_alias=True, exclude_defaults=True))


@commands.command(
    "set", example='mlservice toggles set new-model --percent 5 --why "try it on a few users"'
)
def set_toggle(
    context: typer.Context,
    name: NameArgument,
    why: ReasonOption,
    percent: Annotated[
        float | None,
        typer.Option(metavar="P", parser=read_percent, help="On for P % of the users."),
    ] = None,
    split: Annotated[
        str | None,
        typer.Option(
            metavar="NAME=P,...",
            help="An A/B test: variants and their shares, such as control=50,treatment=50.",
        ),
    ] = None,
    file: Annotated[
        Path | None, typer.Option(metavar="FILE", help="A file with a flag in flagd's JSON format.")
    ] = None,
    allow: Annotated[
        list[str] | None,
        typer.Option(
            metavar="USER",
            help="With --percent: a user for whom it is always on; may be repeated.",
        ),
    ] = None,
    by: AuthorOption = None,
) -> None:
    """Make a toggle, or replace it."""
    from mlservice.deploy.operator_settings import decode_flag, set_flag

    exactly_one(context, percent=percent, split=split, file=file)
    if allow and percent is None:
        raise SettingsError("--allow needs --percent: for other rules, write a flag into --file")
    flag = decode_flag(_wanted(percent, split, file, allow or []), f"toggle {name}")
    setting = open_setting(context, "toggles")
    changed = set_flag(setting, name, lambda _: flag, author(by, environ_of(context)), why)
    print_change(name, changed=changed)


@commands.command("off", example='mlservice toggles off new-model --why "too many errors"')
def switch_off(
    context: typer.Context, name: NameArgument, why: ReasonOption, by: AuthorOption = None
) -> None:
    """Switch a toggle off: all users get the default of the code."""
    _switch(context, name, "DISABLED", why, by)


@commands.command("on", example='mlservice toggles on new-model --why "the errors are fixed"')
def switch_on(
    context: typer.Context, name: NameArgument, why: ReasonOption, by: AuthorOption = None
) -> None:
    """Undo `off`: the toggle's rule is in force again."""
    _switch(context, name, "ENABLED", why, by)


@commands.command("history", example="mlservice toggles history new-model")
def history(
    context: typer.Context,
    name: Annotated[
        str | None, typer.Argument(metavar="NAME", help="Only the changes of this toggle.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Show who changed the toggles, when and why."""
    print_history(context, "toggles", name, as_json=as_json)


def _switch(context: typer.Context, name: str, state: str, why: str, by: str | None) -> None:
    from mlservice.deploy.operator_settings import set_flag

    def switched(flag: Flag | None) -> Flag:
        if flag is None:
            raise _unknown(name)
        return flag.model_copy(update={"state": state})

    setting = open_setting(context, "toggles")
    changed = set_flag(setting, name, switched, author(by, environ_of(context)), why)
    print_change(name, changed=changed)


def _wanted(percent: float | None, split: str | None, file: Path | None, allow: list[str]) -> Any:
    """Return the flag that the options stand for, as JSON."""
    from mlservice.deploy.toggle_rules import percent_flag, split_flag

    if file is not None:
        return read_json("--file", file)
    if split is not None:
        return split_flag([_share(part) for part in split.split(",")])
    return percent_flag(percent or 0.0, allow)


def _share(text: str) -> tuple[str, float]:
    name, value = read_pair("--split", text)
    try:
        return name, read_percent(value)
    except typer.BadParameter as error:
        raise SettingsError(f"--split {text}: {error.message}") from error


def _row(name: str, flag: Flag, change: AuditEntry | None) -> tuple[str, ...]:
    from mlservice.deploy.toggle_rules import describe_rule

    said = (change.by, f"{change.at:%Y-%m-%d %H:%M}", change.why) if change else ("", "", "")
    return (name, "on" if flag.state == "ENABLED" else "OFF", describe_rule(flag), *said)


def _as_dict(name: str, flag: Flag, change: AuditEntry | None) -> dict[str, Any]:
    return {
        "name": name,
        "flag": flag.model_dump(by_alias=True, exclude_defaults=True),
        "changed_by": change.by if change else None,
        "changed_at": change.at.isoformat() if change else None,
        "why": change.why if change else None,
    }


def _unknown(name: str) -> SettingsError:
    return SettingsError(f"there is no toggle '{name}': see `mlservice toggles list`")
