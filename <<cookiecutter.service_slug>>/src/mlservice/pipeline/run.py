"""Runs a pipeline with Luigi and reports truly how it ended.

By default Luigi reports success even if tasks failed, and trusts ``run()`` without a check. Here
each task's artifact is looked up after it ran, and the status of Luigi's summary decides.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime

import luigi
from luigi.execution_summary import LuigiStatusCode

from mlservice.artifacts import Artifact, Store
from mlservice.errors import MlserviceError, PipelineError
from mlservice.jobs import Executor, LocalExecutor
from mlservice.pipeline.discovery import load_root
from mlservice.pipeline.tasks import Runtime, Task
from mlservice.pipeline.threads import Factory
from mlservice.progress import SILENT, Progress
from mlservice.settings import Settings

_SUCCESS = (LuigiStatusCode.SUCCESS, LuigiStatusCode.SUCCESS_WITH_RETRY)
_MAX_FAILURES = 3
log = logging.getLogger("mlservice.pipeline")


@dataclass(frozen=True)
class TaskStatus:
    """One task of a pipeline: its depth below the root, and whether it is complete."""

    depth: int
    name: str
    complete: bool
    uri: str


@dataclass(frozen=True)
class RunOutcome:
    """The result of a run: the root's artifact, and how many tasks ran for it."""

    artifact: Artifact
    ran: int


def make_executor(
    settings: Settings, store: Store, environ: Mapping[str, str], *, stop_jobs: bool = False
) -> Executor:
    """Return the executor of the settings; ``stop_jobs`` stops dispatched jobs when cancelled."""
    if settings.pipeline.executor == "local":
        return LocalExecutor(settings.state / "logs", settings.folder, environ)
    from mlservice.cluster import open_nomad
    from mlservice.jobs.nomad_executor import NomadExecutor

    return NomadExecutor(
        open_nomad(settings.batch_cluster, environ, "batch_cluster"),
        store,
        settings.service.name,
        tries=settings.pipeline.tries,
        placement_seconds=settings.pipeline.placement_minutes * 60,
        stop_on_close=stop_jobs,
    )


def root_task(
    settings: Settings,
    store: Store,
    executor: Executor,
    period: datetime,
    parameters: Mapping[str, str],
) -> Task:
    """Return the owner's root task for ``period``.

    Raises ``OwnerError``, and ``PipelineError`` for unknown parameters or undeclared jobs.
    """
    cls = load_root(settings.service.package)
    known = {name: parameter for name, parameter in cls.get_params() if name != "period"}
    if unknown := sorted(parameters.keys() - known.keys()):
        raise PipelineError(
            f"parameter {', '.join(unknown)}: the pipeline has no such parameter "
            f"(there are: {', '.join(known) or 'none'})"
        )
    values = {}
    for name, text in parameters.items():
        try:
            values[name] = known[name].parse(text)
        except ValueError as error:
            raise PipelineError(f"parameter {name} = '{text}': {error}") from error
    task = cls(period=period, **values)
    return task.bind(Runtime(settings.service.name, store, executor))


def run_pipeline(task: Task, workers: int, progress: Progress = SILENT) -> RunOutcome:
    """Run ``task`` and all that it needs, with up to ``workers`` tasks at the same time.

    Raises ``PipelineError`` with each task that failed, the reason, and the place of its log.
    """
    missing = sum(not status.complete for status in status_of(task, beyond_complete=False))
    if not missing:
        return RunOutcome(task.output().open(), ran=0)
    log.info("%d of the pipeline's tasks are to run", missing)
    progress.begin("tasks", missing)
    with _advancing(progress):
        build(task, workers=workers, runtime=task.runtime)
    if not task.complete():
        raise PipelineError(_explain(task, task.runtime, LuigiStatusCode.NOT_RUN))
    return RunOutcome(task.output().open(), ran=missing)


def build(task: luigi.Task, *, workers: int, runtime: Runtime) -> None:
    """Let Luigi run ``task`` and all that it needs, in threads; raises as ``run_pipeline`` does."""
    runtime.failures.clear()
    _silence_luigi()
    try:
        result = luigi.build(
            [task],
            worker_scheduler_factory=Factory(),
            local_scheduler=True,
            workers=workers,
            detailed_summary=True,
            no_lock=True,
        )
    except BaseException:
        runtime.executor.close()
        raise
    if result.status not in _SUCCESS:
        raise PipelineError(_explain(task, runtime, result.status))


def status_of(task: Task, *, beyond_complete: bool = True) -> list[TaskStatus]:
    """Return ``task`` and all that it needs, the root first, each once.

    ``beyond_complete`` includes the inputs of complete tasks, which a run would not look at.
    """
    seen: set[str] = set()

    def walk(current: Task, depth: int) -> Iterator[TaskStatus]:
        if current.task_id in seen:
            return
        seen.add(current.task_id)
        target = current.output()
        complete = target.exists()
        yield TaskStatus(depth, str(current), complete, target.uri)
        for required in current.requires() if beyond_complete or not complete else ():
            yield from walk(required, depth + 1)

    return list(walk(task, 0))


@luigi.Task.event_handler(luigi.Event.START)  # type: ignore[untyped-decorator]  # Luigi's own
def _log_start(task: Task) -> None:
    log.info("started  %s", task)


@luigi.Task.event_handler(luigi.Event.PROCESSING_TIME)  # type: ignore[untyped-decorator]  # Luigi's
def _log_end(task: Task, seconds: float) -> None:
    log.info("finished %s in %.1f s", task, seconds)


@contextmanager
def _advancing(progress: Progress) -> Iterator[None]:
    """Advance ``progress`` whenever a task has succeeded."""

    def advance(_: Task) -> None:
        progress.advance()

    luigi.Task.event_handler(luigi.Event.SUCCESS)(advance)
    try:
        yield
    finally:
        luigi.Task.remove_event_handler(luigi.Event.SUCCESS, advance)
        progress.end()


def _silence_luigi() -> None:
    """Keep Luigi from logging: this module logs the same, once and with the remedy."""
    luigi.configuration.get_config().set("core", "no_configure_logging", "true")
    for name in ("luigi", "luigi-interface", "luigi.scheduler"):
        logging.getLogger(name).setLevel(logging.CRITICAL)


def _explain(task: luigi.Task, runtime: Runtime, status: LuigiStatusCode) -> str:
    failures = runtime.failures
    if not failures:
        try:
            status_of(task) if isinstance(task, Task) else task.deps()
        except MlserviceError as error:
            return f"{task}: cannot be scheduled: {error}"
        return f"{task}: did not complete (Luigi says {status.name}), and no task says why"
    lines = [f"{task} did not complete; {len(failures)} of its tasks failed:"]
    shown = failures[:_MAX_FAILURES]
    lines += [f"  {failure.task}\n    {failure.reason}" for failure in shown]
    lines += [f"  {failure.task}: likewise, see its log" for failure in failures[len(shown) :]]
    lines.append("What is complete stays; run the same command again once the cause is gone.")
    return "\n".join(lines)
