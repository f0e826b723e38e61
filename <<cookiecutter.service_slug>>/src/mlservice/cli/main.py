"""Parses the command line, runs the verb and turns errors into messages and exit codes."""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Mapping, Sequence
from types import FrameType

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
from mlservice.errors import MlserviceError

_INTERRUPTED = 130


def main(argv: Sequence[str], environ: Mapping[str, str]) -> int:
    """Run one command; returns its exit code (see ``errors`` for their meaning)."""
    arguments = make_parser().parse_args(argv)
    # Also where a shell started this in the background, which ignores Ctrl-C otherwise.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, _terminate)
    # A terminal that is closed says SIGHUP; servers (see __main__) and nohup have it ignored.
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        signal.signal(signal.SIGHUP, _terminate)
    try:
        code: int = arguments.run(arguments, environ)
    except MlserviceError as error:
        print(f"mlservice: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        return _INTERRUPTED
    return code


def make_parser() -> argparse.ArgumentParser:
    """The command line with all its verbs."""
    parser = argparse.ArgumentParser(
        prog="mlservice", description="Trains, stores, serves and upgrades this service."
    )
    parser.add_argument("--version", action="version", version=f"mlservice {__version__}")
    verbs = parser.add_subparsers(required=True, metavar="COMMAND")
    for verb in (
        pipeline,
        artifacts,
        models,
        serve,
        api,
        toggles,
        routing,
        clients,
        deploy,
        demo,
        upgrade,
        job,
    ):
        verb.add_parser(verbs)
    return parser


def _terminate(number: int, _: FrameType | None) -> None:
    """Leave by the way of an exception, so that everything that was started is stopped."""
    sys.exit(128 + number)
