"""Runs the command line, and turns errors into messages and exit codes.

Each module of this package declares the commands of one group. A command reads its options, calls
one function of another package and prints the result. It imports what it calls when it runs, so
that `mlservice --help` and shell completion start quickly.
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Mapping, Sequence
from types import FrameType
from typing import Annotated, Any

import typer

from mlservice import __version__
from mlservice.cli import (
    api,
    artifacts,
    clients,
    demo,
    deploy,
    job,
    models,
    pipeline,
    routing,
    serve,
    toggles,
    upgrade,
)
from mlservice.cli.group import CommandGroup, Invocation, without_conversion
from mlservice.errors import MlserviceError

PROGRAM = "mlservice"
_GROUPS = {
    "pipeline": pipeline.commands,
    "artifacts": artifacts.commands,
    "models": models.commands,
    "serve": serve.commands,
    "api": api.commands,
    "toggles": toggles.commands,
    "routing": routing.commands,
    "clients": clients.commands,
    "deploy": deploy.commands,
}


def main(argv: Sequence[str], environ: Mapping[str, str]) -> int:
    """Run one command; returns its exit code (see ``errors`` for their meaning)."""
    _handle_signals()
    try:
        make_command().main(args=list(argv), prog_name=PROGRAM, obj=Invocation(environ))
    except MlserviceError as error:
        print(f"{PROGRAM}: {error}", file=sys.stderr)
        return error.exit_code
    except SystemExit as leaving:
        return leaving.code if isinstance(leaving.code, int) else int(leaving.code is not None)
    return 0


def make_command() -> Any:
    """Make the command line with all its commands, as typer's own object."""
    root = CommandGroup("Trains, stores, serves and upgrades this service.", add_completion=True)
    root.callback()(_root)
    for name, group in _GROUPS.items():
        root.add_typer(group, name=name)
    root.command("demo", example="mlservice demo --keep")(demo.demo)
    root.command("upgrade", example="mlservice upgrade --check")(upgrade.upgrade)
    root.command("job", example="mlservice job train --payload call.json")(job.job)
    command: Any = typer.main.get_command(root)
    for flag in command.params:
        without_conversion(flag)
    # typer lists groups last; people start with the first of these.
    order = [*_GROUPS, "demo", "upgrade", "job"]
    command.commands = {name: command.commands[name] for name in order}
    return command


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"{PROGRAM} {__version__}")
        raise typer.Exit


def _root(
    version: Annotated[  # its callback prints it
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version and exit."
        ),
    ] = False,
) -> None:
    """Take the options that stand before the command."""


def _handle_signals() -> None:
    # A shell that starts this in the background lets it ignore Ctrl-C.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, _terminate)
    # A terminal that closes sends SIGHUP; servers (see __main__) and nohup ignore it.
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        signal.signal(signal.SIGHUP, _terminate)


def _terminate(number: int, _: FrameType | None) -> None:
    """Leave by an exception, so that everything that was started is stopped."""
    sys.exit(128 + number)
