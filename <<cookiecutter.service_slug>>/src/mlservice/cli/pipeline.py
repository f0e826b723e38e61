"""``mlservice pipeline run|status``."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from mlservice.cli.common import read_settings, settings_store
from mlservice.errors import PipelineError
from mlservice.observe.logs import log_as_text
from mlservice.settings import Settings

if TYPE_CHECKING:
    from mlservice.pipeline import Task


def add_parser(verbs: Any) -> None:
    """Add the verb to the command line."""
    parser = verbs.add_parser("pipeline", help="train: run the pipeline, or see what is done")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for name, run, text in (
        ("run", _run, "make the model of a period and all that it needs"),
        ("status", _status, "show which tasks of a period are complete"),
    ):
        command = commands.add_parser(name, help=text, description=text)
        command.add_argument("--period", help="a date or hour in UTC (default: the last period)")
        command.add_argument(
            "--set",
            action="append",
            default=[],
            metavar="NAME=VALUE",
            help="a parameter of the pipeline, such as a hyper-parameter; may be repeated",
        )
        command.add_argument("--workers", type=int, help="jobs at the same time")
        command.set_defaults(run=run)


def _run(arguments: argparse.Namespace, environ: Mapping[str, str]) -> int:
    from mlservice.pipeline.run import run_pipeline

    log_as_text()
    settings = read_settings(environ)
    outcome = run_pipeline(
        _task(arguments, settings, environ), arguments.workers or settings.pipeline.workers
    )
    if not outcome.ran:
        print("nothing to do: the artifact is complete")
    print(f"artifact  {outcome.artifact.uri}")
    for name, value in outcome.artifact.manifest.metrics.items():
        print(f"{name:<14}  {value:.4f}")
    return 0


def _status(arguments: argparse.Namespace, environ: Mapping[str, str]) -> int:
    from mlservice.pipeline.run import status_of

    found = status_of(_task(arguments, read_settings(environ), environ))
    for status in found:
        mark = "complete" if status.complete else "missing "
        print(f"{mark}  {'  ' * status.depth}{status.name}")
    done = sum(status.complete for status in found)
    print(f"{done} of {len(found)} tasks are complete")
    return 0


def _task(arguments: argparse.Namespace, settings: Settings, environ: Mapping[str, str]) -> Task:
    from mlservice.pipeline import current_period, parse_period
    from mlservice.pipeline.run import root_task

    every = settings.pipeline.retrain_every
    period = (
        parse_period(arguments.period, every)
        if arguments.period
        else current_period(datetime.now(UTC), every)
    )
    return root_task(
        settings, settings_store(settings), period, dict(map(_pair, arguments.set)), environ
    )


def _pair(text: str) -> tuple[str, str]:
    name, separator, value = text.partition("=")
    if not separator or not name:
        raise PipelineError(f"--set {text}: give it as NAME=VALUE, such as --set trees=300")
    return name, value
