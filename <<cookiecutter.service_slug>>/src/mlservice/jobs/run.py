"""Runs one job in this process: what a job's subprocess, container or Nomad task does.

Inputs are fetched and checked, the function writes into an empty folder, and the folder is
published as one artifact with its manifest. The coordinator computes nothing.
"""

from __future__ import annotations

import json
import math
import platform
import re
import subprocess
import tempfile
import time
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from mlservice.artifacts import Artifact, FileEntry, Manifest, Store, open_artifact, publish
from mlservice.artifacts.artifact import relative_path
from mlservice.errors import JobError
from mlservice.jobs.job import Job
from mlservice.owner import load_model_code, try_model
from mlservice.quality import GOLDEN_NAME

_REQUIREMENT = re.compile(r"^([A-Za-z0-9][\w.-]*)", re.MULTILINE)


@dataclass(frozen=True)
class JobCall:
    """One call of a job: URIs of its inputs, parameters of its task, path of its artifact."""

    job: str
    task: str
    output: str
    code: str
    inputs: Mapping[str, list[str]] = field(default_factory=dict)
    parameters: Mapping[str, Any] = field(default_factory=dict)

    def encode(self) -> str:
        """The call as JSON, as it stands on a job's command line."""
        return json.dumps(vars(self), sort_keys=True, default=str)

    @classmethod
    def decode(cls, text: str) -> JobCall:
        """Read a call from JSON; raises ``JobError`` where it is none."""
        try:
            return cls(**json.loads(text))
        except (TypeError, ValueError) as error:
            raise JobError(f"'{text[:80]}' is not a job's call: {error}") from error


def run_job(job: Job, call: JobCall, store: Store, folder: Path) -> Artifact:
    """Run ``job`` and publish what it wrote.

    ``folder`` is the service's, for its git commit. Raises ``JobError`` for arguments that do
    not fit, ``ModelRefused`` for a model that a worker would refuse, ``ArtifactExists`` where
    another writer was first, and what the function raises.
    """
    parameters = job.convert(call.parameters)
    _check_inputs(job, call)
    if job.code != call.code:
        raise JobError(
            f"job '{job.name}': the code here is {job.code}, but the call was made for "
            f"{call.code}: run the pipeline and its jobs from the same commit"
        )
    with ExitStack() as stack:
        inputs: dict[str, Any] = {}
        for name, several in job.inputs.items():
            found = [
                stack.enter_context(open_artifact(store, relative_path(store, uri)).files())
                for uri in call.inputs[name]
            ]
            inputs[name] = found if several else found[0]
        output = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix=f"{job.name}-")))
        started = time.monotonic()
        metrics = job.function(**inputs, output=output, **parameters)
        seconds = round(time.monotonic() - started, 3)
        if bad := [name for name, value in (metrics or {}).items() if not math.isfinite(value)]:
            raise JobError(
                f"job '{job.name}': metric {', '.join(bad)} is not finite: return finite numbers"
            )
        if (output / GOLDEN_NAME).exists():
            # What a worker could not load must not be published.
            try_model(load_model_code(job.function.__module__.partition(".")[0]), output)

        def describe(files: dict[str, FileEntry]) -> Manifest:
            return Manifest(
                task=call.task,
                job=job.name,
                parameters=dict(call.parameters),
                inputs={name: list(uris) for name, uris in call.inputs.items()},
                metrics=metrics or {},
                files=files,
                code=call.code,
                git_commit=_git_commit(folder),
                created=datetime.now(UTC),
                seconds=seconds,
                environment=_environment(folder),
            )

        return publish(store, call.output, output, describe)


def _check_inputs(job: Job, call: JobCall) -> None:
    for name, several in job.inputs.items():
        uris = call.inputs.get(name, [])
        if (not several and len(uris) != 1) or (several and not uris):
            wanted = "at least one artifact" if several else "one artifact"
            raise JobError(f"job '{job.name}': the input '{name}' needs {wanted}, got {len(uris)}")
    if unknown := call.inputs.keys() - job.inputs.keys():
        raise JobError(f"job '{job.name}' has no input named {', '.join(sorted(unknown))}")


def _git_commit(folder: Path) -> str | None:
    """The commit of the service's repository, marked where files differ from it."""
    command = ("git", "-C", str(folder), "describe", "--always", "--dirty", "--abbrev=40")
    try:
        result = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return result.stdout.strip() or None


def _environment(folder: Path) -> dict[str, str]:
    """Versions of Python and of what the owner requires, among it the packages of raw data."""
    found = {"python": platform.python_version(), "platform": platform.platform()}
    required = folder / "requirements" / "service.in"
    names = _REQUIREMENT.findall(required.read_text("utf-8")) if required.exists() else []
    for name in names:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found
