"""Finds the jobs of the owner's package: all of them, or the one that a process is started for."""

from __future__ import annotations

import importlib
import importlib.util

from mlservice.errors import JobError
from mlservice.jobs.call import JobCall
from mlservice.jobs.job import Job, declared_jobs, find_job, is_declared
from mlservice.owner import load_pipeline

_JOB_MODULES = ("data", "training")


def load_jobs(package: str) -> list[Job]:
    """Import the owner's pipeline and return all jobs that are declared then, by name.

    The pipeline imports the module of each of its jobs, so a job may stand in any module. Those
    in ``data`` and ``training`` are found even if no task needs them. Raises ``OwnerError``.
    """
    load_pipeline(package)
    for name in _JOB_MODULES:
        if importlib.util.find_spec(f"{package}.{name}"):
            importlib.import_module(f"{package}.{name}")
    return declared_jobs()


def load_job(package: str, name: str, call: JobCall) -> Job:
    """Import the module that the call names, and return the job; raises ``JobError``.

    Only that module is imported, since Luigi alone would cost each job half a second. All jobs
    are loaded if the module does not declare it, or if an older coordinator names no module.
    """
    if call.module:
        _import(name, call.module)
    if not is_declared(name):
        load_jobs(package)
    return find_job(name)


def _import(name: str, module: str) -> None:
    try:
        importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module}.".startswith(f"{error.name}."):
            raise  # the module is here, but something that it imports is not
        raise JobError(
            f"job '{name}': there is no module {module} here: run the pipeline and its jobs from "
            "the same commit"
        ) from error
