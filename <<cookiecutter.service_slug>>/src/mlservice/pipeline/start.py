"""Starts pipelines by the settings of a service: the steps behind ``mlservice pipeline``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from mlservice.artifacts import open_service_store
from mlservice.pipeline.grid import Grid
from mlservice.pipeline.grid_plot import draw_grid
from mlservice.pipeline.grid_run import GridOutcome, run_grid
from mlservice.pipeline.parameters import current_period, parse_period
from mlservice.pipeline.run import RunOutcome, make_executor, root_task, run_pipeline
from mlservice.pipeline.tasks import Task
from mlservice.progress import Progress
from mlservice.settings import Settings


def prepare_task(
    settings: Settings,
    environ: Mapping[str, str],
    *,
    period: str | None,
    parameters: Mapping[str, str],
    stop_jobs: bool = False,
) -> Task:
    """Make the pipeline's root task for ``period``, or for the current one.

    Raises ``PipelineError`` for a period or parameter that cannot be used.
    """
    every = settings.pipeline.retrain_every
    start = parse_period(period, every) if period else current_period(datetime.now(UTC), every)
    store = open_service_store(settings, environ)
    executor = make_executor(settings, store, environ, stop_jobs=stop_jobs)
    return root_task(settings, store, executor, start, parameters)


def run_task(settings: Settings, task: Task, workers: int | None, progress: Progress) -> RunOutcome:
    """Run ``task`` and all it needs; then write the metrics file of the settings.

    Raises ``PipelineError``.
    """
    with _metrics_file(settings):
        return run_pipeline(task, workers or settings.pipeline.at_once, progress)


def grid_folder(settings: Settings, grid: Grid) -> Path:
    """Return the folder with the results of a grid."""
    return settings.state / "grids" / grid.name


def run_parameter_grid(
    settings: Settings,
    grid: Grid,
    metric: str,
    *,
    largest: bool,
    workers: int | None,
    progress: Progress,
) -> GridOutcome:
    """Run a grid and draw its results; ``largest`` if a large metric is good."""
    folder = grid_folder(settings, grid)
    pool = workers or settings.pipeline.at_once
    with _metrics_file(settings):
        outcome = run_grid(
            grid, metric=metric, largest=largest, pool=pool, folder=folder, progress=progress
        )
    if best := outcome.best:
        picture = folder / "grid.png"
        draw_grid(outcome.results, tuple(grid.axes), metric, best.metric, picture)
    return outcome


@contextmanager
def _metrics_file(settings: Settings) -> Iterator[None]:
    """Write Prometheus metrics to ``[pipeline] metrics_file`` at the end, also after a failure."""
    try:
        yield
    finally:
        if settings.pipeline.metrics_file:
            from prometheus_client import REGISTRY, write_to_textfile

            write_to_textfile(str(settings.folder / settings.pipeline.metrics_file), REGISTRY)
