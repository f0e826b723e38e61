"""Finds the jobs of a pipeline, and refuses a task whose job could not be found later.

A job runs in a process of its own, which knows it by its name. If the name is not declared, the
failure would come late: after a dispatch, on the cluster. So it is looked up when the pipeline is
loaded.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from mlservice.errors import PipelineError
from mlservice.jobs import Job, load_jobs
from mlservice.jobs.job import is_declared
from mlservice.owner import load_pipeline
from mlservice.pipeline.tasks import Task


def find_jobs(package: str) -> list[Job]:
    """Return all jobs of the owner's package, in whatever module they stand.

    Raises ``OwnerError``, or ``PipelineError`` as ``check_tasks`` does.
    """
    jobs = load_jobs(package)
    check_tasks(package)
    return jobs


def load_root(package: str) -> type[Task]:
    """Return the owner's root task; raises as ``find_jobs`` does."""
    root: type[Task] = load_pipeline(package)
    check_tasks(package)
    return root


def check_tasks(package: str) -> None:
    """Raise ``PipelineError`` with the lines to add for tasks whose jobs are not declared."""
    found = [_remedy(task) for task in _tasks(Task) if _belongs_to(task, package)]
    if missing := [remedy for remedy in found if remedy]:
        raise PipelineError("\n".join(missing))


def _tasks(base: type[Task]) -> Iterator[type[Task]]:
    for task in base.__subclasses__():
        yield task
        yield from _tasks(task)


def _belongs_to(task: type[Task], package: str) -> bool:
    return f"{task.__module__}.".startswith(f"{package}.")


def _remedy(task: type[Task]) -> str:
    """The line to add for a task whose job is not declared; empty if it is, or has none."""
    job = _job(task)
    where = f"task {task.__name__} ({task.__module__})"
    if job is None:
        return ""
    if name := getattr(job, "__name__", ""):
        if is_declared(name):
            return ""
        return (
            f"{where}: its job '{name}' is not declared: write `@job()` above `def {name}` in "
            f"{job.__module__}"
        )
    if isinstance(job, str):
        if is_declared(job):
            return ""
        return (
            f"{where}: there is no job '{job}': write `from MODULE import {job}` in "
            f"{task.__module__} and `job = {job}` in the task"
        )
    return f"{where}: job = {job!r} is no function: write `job = NAME`, a function with `@job()`"


def _job(task: type[Task]) -> Any:
    """The task's own or inherited job as it was written, not bound to the class."""
    for base in task.__mro__:
        if "job" in vars(base):
            return vars(base)["job"]
    return None
