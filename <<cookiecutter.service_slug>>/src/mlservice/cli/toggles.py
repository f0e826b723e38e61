"""``mlservice toggles list|show|set|on|off|history``."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlservice.cli.audit_options import add_history, add_reason, changed, open_control, who
from mlservice.cli.common import pair, read_settings, table
from mlservice.errors import SettingsError

if TYPE_CHECKING:
    from mlservice.live import Flag

_PARTS = 1000
"""Parts of a percent in which shares are written."""


def add_parser(verbs: Any) -> None:
    """Add the verb to the command line."""
    parser = verbs.add_parser("toggles", help="feature toggles and A/B tests of the cluster")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    listing = commands.add_parser("list", help="all of them, and what each does")
    listing.set_defaults(run=_list)
    show = commands.add_parser("show", help="one of them in flagd's format")
    show.add_argument("name", metavar="NAME")
    show.set_defaults(run=_show)

    setting = commands.add_parser("set", help="make one or replace it")
    setting.add_argument("name", metavar="NAME")
    kind = setting.add_mutually_exclusive_group(required=True)
    kind.add_argument("--percent", type=_percent, metavar="P", help="on for P %% of the users")
    kind.add_argument(
        "--split",
        metavar="NAME=P,...",
        help="an A/B test: variants and their shares, such as control=50,treatment=50",
    )
    kind.add_argument("--file", type=Path, metavar="FILE", help="a flag in flagd's JSON format")
    setting.add_argument(
        "--allow",
        action="append",
        default=[],
        metavar="USER",
        help="with --percent: a user who has it whatever his share; may be repeated",
    )
    setting.set_defaults(run=_set)

    for name, text in (
        ("off", "the kill switch: everybody gets the default of the code"),
        ("on", "take `off` back: its rule is in force again"),
    ):
        command = commands.add_parser(name, help=text)
        command.add_argument("name", metavar="NAME")
        command.set_defaults(run=_switch, state="ENABLED" if name == "on" else "DISABLED")
        add_reason(command)
    add_reason(setting)
    add_history(commands, "toggles")


def _percent(text: str) -> float:
    value = float(text)
    if not 0 <= value <= 100 or abs(value * _PARTS - round(value * _PARTS)) > 1e-6:
        raise argparse.ArgumentTypeError(f"'{text}': give 0 to 100, in steps of 0.001")
    return value


def _list(_: argparse.Namespace, environ: Mapping[str, str]) -> int:
    from mlservice.deploy.operator_settings import read_flags

    control = open_control(read_settings(environ), environ, "toggles")
    last = {change.what: change for change in reversed(control.history())}
    rows = []
    for name, flag in read_flags(control).flags.items():
        change = last.get(name)
        said = (change.by, f"{change.at:%Y-%m-%d %H:%M}", change.why) if change else ("", "", "")
        state = "on" if flag.state == "ENABLED" else "OFF"
        rows.append((name, state, _rule(flag), *said))
    print(table(("toggle", "", "rule", "last changed by", "at (UTC)", "why"), rows))
    return 0


def _show(arguments: argparse.Namespace, environ: Mapping[str, str]) -> int:
    from mlservice.deploy.operator_settings import read_flags

    control = open_control(read_settings(environ), environ, "toggles")
    flag = read_flags(control).flags.get(arguments.name)
    if flag is None:
        raise _unknown(arguments.name)
    print(json.dumps(flag.model_dump(by_alias=True, exclude_defaults=True), indent=2))
    return 0


def _set(arguments: argparse.Namespace, environ: Mapping[str, str]) -> int:
    from mlservice.deploy.operator_settings import decode_flag, set_flag

    if arguments.allow and arguments.percent is None:
        raise SettingsError("--allow goes with --percent: write a rule into --file for the rest")
    flag = decode_flag(_wanted(arguments), f"toggle {arguments.name}")
    control = open_control(read_settings(environ), environ, "toggles")
    done = set_flag(control, arguments.name, lambda _: flag, who(arguments, environ), arguments.why)
    return changed(arguments.name, done)


def _switch(arguments: argparse.Namespace, environ: Mapping[str, str]) -> int:
    from mlservice.deploy.operator_settings import set_flag

    def switched(flag: Flag | None) -> Flag:
        if flag is None:
            raise _unknown(arguments.name)
        return flag.model_copy(update={"state": arguments.state})

    control = open_control(read_settings(environ), environ, "toggles")
    done = set_flag(control, arguments.name, switched, who(arguments, environ), arguments.why)
    return changed(arguments.name, done)


def _wanted(arguments: argparse.Namespace) -> Any:
    """The flag that the options stand for, as JSON."""
    if arguments.file is not None:
        try:
            return json.loads(arguments.file.read_text("utf-8"))
        except (OSError, ValueError) as error:
            raise SettingsError(f"--file {arguments.file}: cannot be read: {error}") from error
    if arguments.split is not None:
        shares = [_share(part) for part in arguments.split.split(",")]
        variants: dict[str, Any] = {name: name for name, _ in shares}
        return _flag(variants, shares[0][0], _fractions(shares))
    shares = [("on", arguments.percent), ("off", 100 - arguments.percent)]
    rule: Any = _fractions(shares)
    if arguments.allow:
        rule = {"if": [{"in": [{"var": "targetingKey"}, arguments.allow]}, "on", rule]}
    return _flag({"on": True, "off": False}, "off", rule)


def _share(text: str) -> tuple[str, float]:
    name, value = pair(text)
    try:
        return name, _percent(value)
    except (ValueError, argparse.ArgumentTypeError) as error:
        raise SettingsError(f"--split {text}: {error}") from error


def _fractions(shares: Sequence[tuple[str, float]]) -> dict[str, Any]:
    return {"fractional": [[name, round(share * _PARTS)] for name, share in shares]}


def _flag(variants: Mapping[str, Any], default: str, rule: Any) -> dict[str, Any]:
    return {
        "state": "ENABLED",
        "variants": variants,
        "defaultVariant": default,
        "targeting": rule,
    }


def _rule(flag: Flag) -> str:
    """What a flag does, in short."""
    rule: Any = flag.targeting
    if not rule:
        return f"{flag.default} for all"
    if set(rule) == {"fractional"} and all(len(part) == 2 for part in rule["fractional"]):
        total = sum(weight for _, weight in rule["fractional"])
        return ", ".join(f"{n} {100 * weight / total:g} %" for n, weight in rule["fractional"])
    return "a rule: see `toggles show`"


def _unknown(name: str) -> SettingsError:
    return SettingsError(f"there is no toggle '{name}': see `mlservice toggles list`")
