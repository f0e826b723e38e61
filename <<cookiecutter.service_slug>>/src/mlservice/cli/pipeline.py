"""``mlservice pipeline run|status|grid``."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from mlservice.cli.common import pair, read_settings, settings_store
from mlservice.cli.models import publish_record
from mlservice.errors import PipelineError
from mlservice.observe.logs import log_as_text
from mlservice.settings import Settings

if TYPE_CHECKING:
    from mlservice.artifacts import Artifact
    from mlservice.pipeline import Task


def add_parser(verbs: Any) -> None:
    """Add the verb to the command line."""
    parser = verbs.add_parser("pipeline", help="train: run the pipeline, or see what is done")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for name, run, text in (
        ("run", _run, "make the model of a period and all that it needs"),
        ("status", _status, "show which tasks of a period are complete"),
        ("grid", _grid, "make a model for each combination of parameters, and name the best"),
    ):
        command = commands.add_parser(name, help=text, description=text)
        command.add_argument("--period", help="a date or hour in UTC (default: now)")
        command.add_argument(
            "--set",
            action="append",
            default=[],
            metavar="NAME=VALUE",
            help="a parameter of the pipeline, such as a hyper-parameter; may be repeated",
        )
        command.set_defaults(run=run)
        if name != "status":
            command.add_argument("--workers", type=int, help="jobs at the same time")
            command.add_argument(
                "--stop-jobs",
                action="store_true",
                help="stop dispatched jobs when cancelled (default: they run on, to be picked up)",
            )
        if name == "run":
            command.add_argument(
                "--publish", action="store_true", help="check the model and let it serve"
            )
    grid = commands.choices["grid"]
    grid.add_argument(
        "--over",
        action="append",
        default=[],
        required=True,
        metavar="NAME=VALUES",
        help="a parameter's values, as 1,2,5 or start:stop:step; may be repeated",
    )
    grid.add_argument("--metric", default="loss", help="what the best model is judged by")
    grid.add_argument("--largest", action="store_true", help="the largest is the best")


def _run(arguments: argparse.Namespace, environ: Mapping[str, str]) -> int:
    from mlservice.pipeline.run import run_pipeline

    log_as_text()
    settings = read_settings(environ)
    task = _task(arguments, settings, environ, stop_jobs=arguments.stop_jobs)
    try:
        outcome = run_pipeline(task, arguments.workers or settings.pipeline.at_once)
    finally:
        _write_metrics(settings)
    if not outcome.ran:
        print("nothing to do: the artifact is complete")
    print(f"artifact  {outcome.artifact.uri}")
    for name, value in outcome.artifact.manifest.metrics.items():
        print(f"{name:<14}  {value:.4f}")
    if arguments.publish:
        _publish(settings, environ, outcome.artifact)
    return 0


def _publish(settings: Settings, environ: Mapping[str, str], artifact: Artifact) -> None:
    from mlservice.models import describe
    from mlservice.models.publish import check
    from mlservice.owner import load_model_code

    check(artifact, load_model_code(settings.service.package))
    publish_record(settings, environ, describe(artifact), by_hand=False)


def _write_metrics(settings: Settings) -> None:
    if settings.pipeline.metrics_file:
        from prometheus_client import REGISTRY, write_to_textfile

        write_to_textfile(str(settings.folder / settings.pipeline.metrics_file), REGISTRY)


def _grid(arguments: argparse.Namespace, environ: Mapping[str, str]) -> int:
    from mlservice.pipeline.grid import make_grid
    from mlservice.pipeline.grid_plot import draw_grid
    from mlservice.pipeline.grid_run import run_grid

    log_as_text()
    settings = read_settings(environ)
    task = _task(arguments, settings, environ, stop_jobs=arguments.stop_jobs)
    grid = make_grid(task, dict(map(pair, arguments.over)))
    folder = settings.state / "grids" / grid.name
    print(f"{len(grid)} combinations; results in {folder}")
    try:
        outcome = run_grid(
            grid,
            metric=arguments.metric,
            largest=arguments.largest,
            pool=arguments.workers or settings.pipeline.at_once,
            folder=folder,
        )
    finally:
        _write_metrics(settings)
    print(f"{outcome.ran} ran, {outcome.complete} were complete, {outcome.failed} failed")
    if best := outcome.best:
        draw_grid(
            outcome.results, tuple(grid.axes), arguments.metric, best.metric, folder / "grid.png"
        )
        values = "  ".join(f"{name}={value}" for name, value in best.values.items())
        print(f"best  {values}  {arguments.metric} {best.metric:.5g}\n      {best.uri}")
    if outcome.failed:
        raise PipelineError(
            f"{outcome.failed} of {len(grid)} combinations failed: see {outcome.results}; the same "
            "command tries them again"
        )
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


def _task(
    arguments: argparse.Namespace,
    settings: Settings,
    environ: Mapping[str, str],
    *,
    stop_jobs: bool = False,
) -> Task:
    from mlservice.pipeline import current_period, parse_period
    from mlservice.pipeline.run import make_executor, root_task

    every = settings.pipeline.retrain_every
    period = (
        parse_period(arguments.period, every)
        if arguments.period
        else current_period(datetime.now(UTC), every)
    )
    store = settings_store(settings)
    executor = make_executor(settings, store, environ, stop_jobs=stop_jobs)
    return root_task(settings, store, executor, period, dict(map(pair, arguments.set)))
