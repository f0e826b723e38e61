"""Runs a pipeline of jobs that do nothing, in a process of its own to measure its peak memory.

``python -m bench.noop COUNT POOL FOLDER [NOMAD]`` runs a grid of COUNT combinations, embedded or
dispatched to the Nomad at that address, and prints time and memory as JSON. A job publishes one
small artifact, as any job does, but no process is started for it.
"""

from __future__ import annotations

import json
import resource
import sys
import tempfile
import time
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import luigi

from mlservice import PeriodParameter, Task, job
from mlservice.artifacts import FileEntry, Manifest, Store, open_store, publish
from mlservice.cluster import Nomad
from mlservice.errors import ArtifactExists
from mlservice.jobs import Executor, Job, JobCall
from mlservice.jobs.nomad_executor import NomadExecutor
from mlservice.pipeline.grid import Grid
from mlservice.pipeline.grid_run import run_grid
from mlservice.pipeline.tasks import Runtime

SERVICE = "bench"
_PERIOD = datetime(2024, 1, 1)


@job(memory_mb=(64,))
def nothing(output: Path, *, number: int) -> dict[str, float]:  # noqa: ARG001  # every job has this parameter
    """Do nothing."""
    return {"loss": float(number)}


class Nothing(Task):
    """A task of that job."""

    job = nothing
    period = PeriodParameter()
    number = luigi.IntParameter()


class Embedded:
    """Makes a call's artifact in this process."""

    def __init__(self, store: Store) -> None:
        """Publish into ``store``."""
        self._store = store

    def run(self, _: Job, call: JobCall) -> None:
        """See ``Executor``."""
        make(self._store, call)

    def close(self) -> None:
        """See ``Executor``."""


def make(store: Store, call: JobCall) -> None:
    """Publish the artifact that a process running ``call`` would publish."""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "nothing.txt").write_text("nothing\n", "utf-8")
        try:
            publish(store, call.output, Path(folder), partial(manifest, call))
        except ArtifactExists:
            return


def manifest(call: JobCall, files: dict[str, FileEntry]) -> Manifest:
    """Return the manifest of such an artifact."""
    return Manifest(
        task=call.task,
        job=call.job,
        parameters=dict(call.parameters),
        inputs={},
        metrics={"loss": float(call.parameters.get("number", 0))},
        files=files,
        code=call.code,
        git_commit=None,
        created=datetime.now(UTC),
        seconds=0,
        environment={},
    )


def main(argv: list[str]) -> int:
    """Run the grid; print seconds, peak memory in MB, and the number of jobs."""
    count, pool, folder = int(argv[0]), int(argv[1]), Path(argv[2])
    store = open_store((folder / "artifacts").as_uri())
    executor: Executor = Embedded(store)
    if len(argv) > 3:
        executor = NomadExecutor(Nomad(argv[3]), store, SERVICE)
    base = Nothing(period=_PERIOD, number=0).bind(Runtime(SERVICE, store, executor))
    grid = Grid(base, {"number": range(count)})
    started = time.perf_counter()
    outcome = run_grid(grid, metric="loss", largest=False, pool=pool, folder=folder / "grid")
    seconds = time.perf_counter() - started
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    found = {"seconds": seconds, "peak_mb": peak, "ran": outcome.ran, "failed": outcome.failed}
    print(json.dumps(found))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
