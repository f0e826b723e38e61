"""``mlservice pipeline run|status|grid``."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mlservice.cli.group import CommandGroup, environ_of, settings_of
from mlservice.cli.models import print_published
from mlservice.cli.options import JsonOption, read_pairs, read_single_pairs, whole_number
from mlservice.cli.output import print_json
from mlservice.cli.progress import show_progress
from mlservice.errors import PipelineError

if TYPE_CHECKING:
    from mlservice.models.registry import Result
    from mlservice.pipeline import Task
    from mlservice.pipeline.grid_run import GridOutcome
    from mlservice.pipeline.run import RunOutcome

commands = CommandGroup("Train a model, or show which tasks are complete.")

PeriodOption = Annotated[
    str | None, typer.Option(metavar="PERIOD", help="A date or hour in UTC (default: now).")
]
SetOption = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="NAME=VALUE",
        help="A parameter of the pipeline, such as a hyper-parameter; may be repeated.",
    ),
]
WorkersOption = Annotated[
    int | None,
    typer.Option(
        "--workers",
        metavar="N",
        parser=whole_number(1),
        help="Jobs that run at the same time (default: workers or dispatched of [pipeline]).",
    ),
]
OverOption = Annotated[
    list[str],
    typer.Option(
        "--over",
        metavar="NAME=VALUES",
        help="A parameter's values, as 1,2,5 or start:stop:step; may be repeated.",
    ),
]
MetricOption = Annotated[
    str,
    typer.Option("--metric", metavar="METRIC", help="The metric that decides which model is best."),
]
LargestOption = Annotated[
    bool, typer.Option("--largest", help="The best model has the largest metric.")
]
PublishOption = Annotated[
    bool, typer.Option("--publish", help="Check the model, then let it serve.")
]
StopJobsOption = Annotated[
    bool,
    typer.Option(
        "--stop-jobs",
        help="Stop dispatched jobs if this command is cancelled (default: they run on, and the "
        "next run picks them up).",
    ),
]


@commands.command("run", example="mlservice pipeline run --period 2013-10-07 --set trees=300")
def run(
    context: typer.Context,
    period: PeriodOption = None,
    parameters: SetOption = None,
    workers: WorkersOption = None,
    stop_jobs: StopJobsOption = False,
    publish: PublishOption = False,
    as_json: JsonOption = False,
) -> None:
    """Make the model of a period, and all data sets that it needs.

    What is complete already is not made again.
    """
    from mlservice.models.serving import publish_model
    from mlservice.observe.logs import log_as_text
    from mlservice.pipeline.start import run_task

    log_as_text()
    settings = settings_of(context)
    task = _task(context, period, parameters, stop_jobs=stop_jobs)
    published: Result | None = None
    with show_progress(silent=as_json) as progress:
        outcome = run_task(settings, task, workers, progress)
        model = outcome.artifact
        if not as_json:
            _print_outcome(outcome)
        if publish:
            environ = environ_of(context)
            published = publish_model(settings, environ, model, by_hand=False, progress=progress)
    if as_json:
        print_json({**_outcome_as_dict(outcome), "published": published})
    elif published:
        print_published(model.version, published, as_json=False)


@commands.command("status", example="mlservice pipeline status --period 2013-10-07")
def status(
    context: typer.Context,
    period: PeriodOption = None,
    parameters: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show which tasks of a period are complete."""
    from mlservice.pipeline.run import status_of

    found = status_of(_task(context, period, parameters))
    if as_json:
        print_json([asdict(status) for status in found])
        return
    for status in found:
        mark = "complete" if status.complete else "missing "
        print(f"{mark}  {'  ' * status.depth}{status.name}")
    print(f"{sum(status.complete for status in found)} of {len(found)} tasks are complete")


@commands.command("grid", example="mlservice pipeline grid --over trees=100,300 --over depth=3:9:2")
def grid(
    context: typer.Context,
    over: OverOption,
    period: PeriodOption = None,
    parameters: SetOption = None,
    workers: WorkersOption = None,
    stop_jobs: StopJobsOption = False,
    metric: MetricOption = "loss",
    largest: LargestOption = False,
    as_json: JsonOption = False,
) -> None:
    """Make a model for each combination of parameters.

    Names the best one, and draws a picture of all.
    """
    from mlservice.observe.logs import log_as_text
    from mlservice.pipeline.grid import make_grid
    from mlservice.pipeline.start import grid_folder, run_parameter_grid

    log_as_text()
    settings = settings_of(context)
    task = _task(context, period, parameters, stop_jobs=stop_jobs)
    combinations = make_grid(task, read_single_pairs("--over", over))
    if not as_json:
        print(f"{len(combinations)} combinations; results in {grid_folder(settings, combinations)}")
    with show_progress(silent=as_json) as progress:
        outcome = run_parameter_grid(
            settings, combinations, metric, largest=largest, workers=workers, progress=progress
        )
    _print_grid(outcome, metric, as_json=as_json)
    if outcome.failed:
        raise PipelineError(
            f"{outcome.failed} of {len(combinations)} combinations failed: see {outcome.results}; "
            "the same command tries them again"
        )


def _task(
    context: typer.Context,
    period: str | None,
    parameters: list[str] | None,
    *,
    stop_jobs: bool = False,
) -> Task:
    from mlservice.pipeline.start import prepare_task

    return prepare_task(
        settings_of(context),
        environ_of(context),
        period=period,
        parameters=read_pairs("--set", parameters),
        stop_jobs=stop_jobs,
    )


def _outcome_as_dict(outcome: RunOutcome) -> dict[str, Any]:
    metrics = dict(outcome.artifact.manifest.metrics)
    return {"artifact": outcome.artifact.uri, "ran": outcome.ran, "metrics": metrics}


def _print_outcome(outcome: RunOutcome) -> None:
    if not outcome.ran:
        print("nothing to do: the artifact is complete")
    print(f"artifact  {outcome.artifact.uri}", flush=True)
    for name, value in outcome.artifact.manifest.metrics.items():
        print(f"{name:<14}  {value:.4f}")


def _print_grid(outcome: GridOutcome, metric: str, *, as_json: bool) -> None:
    if as_json:
        print_json(asdict(outcome))
        return
    print(f"{outcome.ran} ran, {outcome.complete} were complete, {outcome.failed} failed")
    if best := outcome.best:
        values = "  ".join(f"{name}={value}" for name, value in best.values.items())
        print(f"best  {values}  {metric} {best.metric:.5g}\n      {best.uri}")
