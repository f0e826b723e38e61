"""``mlservice routing show|set|clear|history``."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mlservice.cli.audit_options import add_history, add_reason, changed, open_control, who
from mlservice.cli.common import pair, read_settings
from mlservice.errors import SettingsError

_EVEN = "each version has the share of its workers"


def add_parser(verbs: Any) -> None:
    """Add the verb to the command line."""
    parser = verbs.add_parser("routing", help="which version gets which share of the requests")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    show = commands.add_parser("show", help="the policy that is set")
    show.set_defaults(run=_show)
    setting = commands.add_parser("set", help="set a policy")
    kind = setting.add_mutually_exclusive_group(required=True)
    kind.add_argument(
        "--weights", metavar="VERSION=W,...", help="weights, such as stable=90,challenger=10"
    )
    kind.add_argument("--canary", type=float, metavar="SHARE", help="share of the canaries, 0 to 1")
    kind.add_argument("--file", type=Path, metavar="FILE", help="any policy, as JSON")
    setting.add_argument("--salt", help="name of the experiment: another one deals the users anew")
    setting.set_defaults(run=_set)
    clear = commands.add_parser("clear", help=f"set none: {_EVEN}")
    clear.set_defaults(run=_clear)
    for command in (setting, clear):
        add_reason(command)
    add_history(commands, "routing", of_one=False)


def _show(_: argparse.Namespace, environ: Mapping[str, str]) -> int:
    from mlservice.deploy.operator_settings import read_policy

    policy = read_policy(open_control(read_settings(environ), environ, "routing"))
    print(f"none: {_EVEN}" if policy is None else policy.model_dump_json(indent=2))
    return 0


def _set(arguments: argparse.Namespace, environ: Mapping[str, str]) -> int:
    from mlservice.deploy.operator_settings import decode_policy, set_policy

    policy = decode_policy(_wanted(arguments), "the routing")
    control = open_control(read_settings(environ), environ, "routing")
    return changed("routing", set_policy(control, policy, who(arguments, environ), arguments.why))


def _clear(arguments: argparse.Namespace, environ: Mapping[str, str]) -> int:
    from mlservice.deploy.operator_settings import set_policy

    control = open_control(read_settings(environ), environ, "routing")
    return changed("routing", set_policy(control, None, who(arguments, environ), arguments.why))


def _wanted(arguments: argparse.Namespace) -> Any:
    """The policy that the options stand for, as JSON."""
    if arguments.file is not None:
        try:
            found = json.loads(arguments.file.read_text("utf-8"))
        except (OSError, ValueError) as error:
            raise SettingsError(f"--file {arguments.file}: cannot be read: {error}") from error
    elif arguments.weights is not None:
        found = {
            "policy": "weights",
            "weights": dict(_weight(part) for part in arguments.weights.split(",")),
        }
    else:
        found = {"policy": "canary", "share": arguments.canary}
    if arguments.salt is not None and isinstance(found, dict):
        found["salt"] = arguments.salt
    return found


def _weight(text: str) -> tuple[str, float]:
    name, value = pair(text)
    try:
        return name, float(value)
    except ValueError:
        raise SettingsError(f"--weights {text}: '{value}' is no number") from None
