"""Runs one job in this process: what a job's subprocess, container or Nomad task does.

Inputs are fetched and checked, the function writes into an empty folder, and the folder is
published as one artifact with its manifest. The coordinator computes nothing.
"""

from __future__ import annotations

import math
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from mlservice.artifacts import Artifact, FileEntry, Manifest, Store, open_artifact, publish
from mlservice.artifacts.artifact import relative_path
from mlservice.errors import JobError, ModelRefused
from mlservice.jobs.call import JobCall
from mlservice.jobs.job import Job
from mlservice.jobs.provenance import git_commit, installed_versions
from mlservice.owner import load_model_code
from mlservice.quality import has_golden_rows, try_model


@dataclass(frozen=True)
class Place:
    """Where a job runs: the artifact store, the service's folder, and the owner's package."""

    store: Store
    folder: Path
    package: str


def run_job(job: Job, call: JobCall, place: Place) -> Artifact:
    """Run ``job`` and publish what it wrote.

    Raises ``JobError`` for arguments that do not fit, ``ModelRefused`` for a model that a worker
    would refuse, ``ArtifactExists`` if another writer was first, and what the function raises.
    """
    parameters = job.convert(call.parameters)
    _check_inputs(job, call)
    _check_code(job, call)
    with (
        _fetched(job, call, place.store) as inputs,
        tempfile.TemporaryDirectory(prefix=f"{job.name}-") as folder,
    ):
        output = Path(folder)
        started = time.monotonic()
        metrics = job.function(**inputs, output=output, **parameters) or {}
        seconds = round(time.monotonic() - started, 3)
        _check_metrics(job, metrics)
        _check_model(job, output, place.package)

        def describe(files: dict[str, FileEntry]) -> Manifest:
            return _manifest(call, place.folder, metrics, seconds, files)

        return publish(place.store, call.output, output, describe)


def _check_inputs(job: Job, call: JobCall) -> None:
    for name, several in job.inputs.items():
        uris = call.inputs.get(name, [])
        if (not several and len(uris) != 1) or (several and not uris):
            wanted = "at least one artifact" if several else "one artifact"
            raise JobError(f"job '{job.name}': the input '{name}' needs {wanted}, got {len(uris)}")
    if unknown := call.inputs.keys() - job.inputs.keys():
        raise JobError(f"job '{job.name}' has no input named {', '.join(sorted(unknown))}")


def _check_code(job: Job, call: JobCall) -> None:
    if job.code != call.code:
        raise JobError(
            f"job '{job.name}': the code here is {job.code}, but the call was made for "
            f"{call.code}: run the pipeline and its jobs from the same commit"
        )


@contextmanager
def _fetched(job: Job, call: JobCall, store: Store) -> Iterator[dict[str, Any]]:
    """The folders of the inputs' artifacts, by the names of the function's arguments."""
    with ExitStack() as stack:
        inputs: dict[str, Any] = {}
        for name, several in job.inputs.items():
            found = [
                stack.enter_context(open_artifact(store, relative_path(store, uri)).files())
                for uri in call.inputs[name]
            ]
            inputs[name] = found if several else found[0]
        yield inputs


def _check_metrics(job: Job, metrics: Mapping[str, float]) -> None:
    if bad := [name for name, value in metrics.items() if not math.isfinite(value)]:
        raise JobError(
            f"job '{job.name}': metric {', '.join(bad)} is not finite: return finite numbers"
        )


def _check_model(job: Job, output: Path, package: str) -> None:
    """Load and try a model as a worker would: one that no worker can load is not published.

    Older jobs do not declare ``model=True``, so golden rows in the output mark a model, too.
    """
    if has_golden_rows(output):
        code = load_model_code(package)
        try_model(output, code.load, code.predict, code.checks)
    elif job.model:
        raise ModelRefused(
            f"job '{job.name}' declares model=True, but left no golden rows: let it call "
            "`accept_model`, or remove model=True from @job"
        )


def _manifest(
    call: JobCall,
    folder: Path,
    metrics: Mapping[str, float],
    seconds: float,
    files: dict[str, FileEntry],
) -> Manifest:
    return Manifest(
        task=call.task,
        job=call.job,
        parameters=dict(call.parameters),
        inputs={name: list(uris) for name, uris in call.inputs.items()},
        metrics=dict(metrics),
        files=files,
        code=call.code,
        git_commit=git_commit(folder),
        created=datetime.now(UTC),
        seconds=seconds,
        environment=installed_versions(folder),
    )
