"""The base of every task: its output is an artifact, and a job does its work.

``complete()`` reads the store and never memory. So a task that ran anywhere counts everywhere,
and one that only seemed to run does not count.

A task gets its ``Runtime`` when it is bound to a run. The tasks that it needs are bound to the
same run, so two runs in one process do not share anything.
"""

from __future__ import annotations

import hashlib
import json
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from copy import copy
from dataclasses import dataclass, field
from typing import Any, ClassVar, Self

import luigi

from mlservice.artifacts import Artifact, Store, artifact_path, open_artifact
from mlservice.artifacts.manifest import MANIFEST_NAME
from mlservice.errors import MlserviceError, PipelineError
from mlservice.jobs import Executor, Job, JobCall, find_job


@dataclass(frozen=True)
class Failure:
    """A task that failed, and why."""

    task: str
    reason: str


@dataclass(frozen=True)
class Runtime:
    """What the tasks of one run share."""

    service: str
    store: Store
    executor: Executor
    failures: list[Failure] = field(default_factory=list)


_RUNTIME: ContextVar[Runtime] = ContextVar("runtime")


@contextmanager
def running(runtime: Runtime) -> Iterator[None]:
    """Let tasks that are made inside, such as in ``inputs()``, belong to this run."""
    token = _RUNTIME.set(runtime)
    try:
        yield
    finally:
        _RUNTIME.reset(token)


class ArtifactTarget(luigi.Target):
    """A Luigi target that exists if the artifact's manifest exists."""

    def __init__(self, store: Store, path: str) -> None:
        """Point at the artifact at ``path`` in ``store``."""
        self.store = store
        self.path = path

    def exists(self) -> bool:
        """Whether the artifact is complete."""
        return self.store.exists(f"{self.path}/{MANIFEST_NAME}")

    def open(self) -> Artifact:
        """Return the artifact; raises ``ArtifactNotFound``."""
        return open_artifact(self.store, self.path)

    @property
    def uri(self) -> str:
        """The artifact's address."""
        return f"{self.store.root}/{self.path}"


class Task(luigi.Task):
    """A step of a pipeline. A subclass sets ``job``, its parameters and ``inputs()``.

    Parameters that the job declares are passed to it; the others only choose inputs. All
    significant parameters are part of the artifact's path.
    """

    job: ClassVar[Any]
    _runtime: ClassVar[Runtime | None] = None  # an instance has its own; Luigi takes no fields

    def __init__(self, *values: Any, **named: Any) -> None:
        """Take the values of the task's parameters; Luigi's own is without types."""
        super().__init__(*values, **named)  # type: ignore[no-untyped-call]  # Luigi's own

    def inputs(self) -> Mapping[str, Sequence[Task] | Task]:
        """Return the tasks whose artifacts the job takes, by the names of the job's inputs."""
        return {}

    def requires(self) -> list[Task]:
        """See Luigi."""
        return [task for tasks in self._tasks().values() for task in tasks]

    def output(self) -> ArtifactTarget:
        """See Luigi: the artifact, named by what it is made from."""
        return ArtifactTarget(self.runtime.store, self.path)

    def complete(self) -> bool:
        """See Luigi: true once the artifact is in the store."""
        return self.output().exists()

    @property
    def runtime(self) -> Runtime:
        """The run that the task is bound to; raises ``PipelineError`` if there is none."""
        found = self._runtime or _RUNTIME.get(None)
        if found is None:
            raise PipelineError(
                f"{self}: it belongs to no run: use it in inputs() of another task, or bind it by "
                "`task.bind(runtime)`"
            )
        return found

    def bind(self, runtime: Runtime) -> Self:
        """Return the same task as a part of a run.

        A copy, since Luigi gives one instance for the same parameters, whatever the run.
        """
        bound = copy(self)
        vars(bound)["_runtime"] = runtime
        return bound

    @property
    def path(self) -> str:
        """Path of the task's artifact below the store's root."""
        written = self.to_str_params(only_significant=True, only_public=True)
        return artifact_path(self.runtime.service, self.task_family, written, self.version)

    def run(self) -> None:
        """Let the executor run the job; a failure is kept for the coordinator's report."""
        try:
            self.runtime.executor.run(self.declared_job, self.call())
        except Exception as error:
            self.record_failure(error)
            raise

    def call(self) -> JobCall:
        """Return the call of the job that makes this task's artifact."""
        declared = self.declared_job
        return JobCall(
            job=declared.name,
            module=declared.module,
            task=self.task_family,
            output=self.path,
            code=declared.code,
            inputs={
                name: [task.output().uri for task in tasks] for name, tasks in self._tasks().items()
            },
            parameters=self.values,
        )

    @property
    def values(self) -> dict[str, Any]:
        """The values of the task's parameters, as they stand in a manifest."""
        found: dict[str, Any] = json.loads(json.dumps(self.param_kwargs, default=str))
        return found

    @property
    def declared_job(self) -> Job:
        """The job of this task; raises ``PipelineError`` if the class has none."""
        if not hasattr(type(self), "job"):
            raise PipelineError(f"task {self.task_family}: set its job, such as `job = train`")
        return find_job(type(self).__dict__.get("job") or type(self).job)

    @property
    def version(self) -> str:
        """The job's code, and a hash of the inputs' names and paths, which hold their versions."""
        code = self.declared_job.code
        inputs = {name: [task.path for task in tasks] for name, tasks in self._tasks().items()}
        if not inputs:
            return code
        return f"{code}-{hashlib.sha256(json.dumps(inputs).encode()).hexdigest()[:10]}"

    def _tasks(self) -> dict[str, list[Task]]:
        runtime = self.runtime
        with running(runtime):
            found = self.inputs()
        several = {
            name: [tasks] if isinstance(tasks, Task) else list(tasks)
            for name, tasks in found.items()
        }
        return {name: [task.bind(runtime) for task in tasks] for name, tasks in several.items()}

    def record_failure(self, error: Exception) -> None:
        """Keep why the task failed for the coordinator's report; Luigi would only log it."""
        known = isinstance(error, MlserviceError)
        reason = str(error) if known else "".join(traceback.format_exception(error))
        self.runtime.failures.append(Failure(str(self), reason))
