"""Runs a grid: Luigi makes its inputs, and a bounded pool runs its combinations.

Results are written to a CSV file line by line, so that the coordinator's memory stays flat. One
listing of the store finds the complete combinations, which do not run again.
"""

from __future__ import annotations

import csv
import logging
import threading
from collections.abc import Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from copy import copy
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import luigi

from mlservice.artifacts.manifest import MANIFEST_NAME, Manifest
from mlservice.errors import MlserviceError, PipelineError
from mlservice.pipeline.grid import Combination, Grid
from mlservice.pipeline.run import build
from mlservice.pipeline.tasks import Task
from mlservice.progress import SILENT, Progress

_MAX_FAILURES = 3
log = logging.getLogger("mlservice.pipeline")


@dataclass(frozen=True)
class Best:
    """The combination with the best metric: its values, the metric, its artifact."""

    values: Mapping[str, Any]
    metric: float
    uri: str


@dataclass
class GridOutcome:
    """The result of a grid: how many combinations ran, were complete before, and failed."""

    results: Path
    ran: int = 0
    complete: int = 0
    failed: int = 0
    best: Best | None = None


def run_grid(
    grid: Grid,
    *,
    metric: str,
    largest: bool,
    pool: int,
    folder: Path,
    progress: Progress = SILENT,
) -> GridOutcome:
    """Run every combination that is not complete, ``pool`` at a time; writes results.csv.

    ``largest`` means that the largest metric is the best. A combination that fails does not stop
    the others. Raises ``PipelineError`` if the grid's inputs cannot be made, or if the job gives
    no such metric.
    """
    folder.mkdir(parents=True, exist_ok=True)
    work = _Work(grid, metric, largest, pool, folder / "results.csv", progress)
    build(GridTask.of(work), workers=pool, runtime=grid.base.runtime)
    return work.outcome


class GridTask(luigi.Task):
    """The whole grid as one Luigi task, which needs the inputs of its combinations."""

    work: ClassVar[_Work]  # each instance has its own; Luigi takes no fields
    name = luigi.Parameter()
    _ended = False

    @classmethod
    def of(cls, work: _Work) -> GridTask:
        """Return a task for ``work``: a copy, since Luigi gives one instance for each name."""
        task = copy(cls(name=work.grid.name))
        vars(task)["work"] = work
        return task

    def requires(self) -> list[Task]:
        """See Luigi."""
        return self.work.grid.needed()

    def complete(self) -> bool:
        """See Luigi. Only a run knows the combinations, and it finds the complete ones quickly."""
        return self._ended

    def run(self) -> None:
        """Run the pool."""
        try:
            self.work.run()
        except Exception as error:
            self.work.grid.base.record_failure(error)
            raise
        self._ended = True


class _Work:
    """The pool: never more than ``pool`` combinations run at the same time."""

    def __init__(
        self,
        grid: Grid,
        metric: str,
        largest: bool,
        pool: int,
        results: Path,
        progress: Progress,
    ) -> None:
        self.grid = grid
        self.outcome = GridOutcome(results)
        self._metric = metric
        self._sign = 1 if largest else -1
        self._pool = pool
        self._progress = progress
        self._lock = threading.Lock()
        self._store = grid.base.runtime.store

    def run(self) -> None:
        done = self._complete()
        self._progress.begin("combinations", len(self.grid))
        try:
            with self.outcome.results.open("w", encoding="utf-8", newline="") as file:
                self._rows = csv.writer(file)
                self._rows.writerow((*self.grid.axes, self._metric, "uri", "failure"))
                self._run_all(done)
        finally:
            self._progress.end()

    def _run_all(self, done: set[str]) -> None:
        with ThreadPoolExecutor(self._pool, thread_name_prefix="grid") as threads:
            begun: set[Future[None]] = set()
            for combination in self.grid.combinations():
                if len(begun) >= self._pool:
                    ended, begun = wait(begun, return_when=FIRST_COMPLETED)
                    for future in ended:
                        future.result()
                is_complete = combination.call.output in done
                begun.add(threads.submit(self._one, combination, is_complete))
            for future in begun:
                future.result()

    def _complete(self) -> set[str]:
        suffix = f"/{MANIFEST_NAME}"
        keys = self._store.keys(self.grid.family)
        return {key.removesuffix(suffix) for key in keys if key.endswith(suffix)}

    def _one(self, combination: Combination, is_complete: bool) -> None:
        base = self.grid.base
        uri = f"{self._store.root}/{combination.call.output}"
        try:
            if not is_complete:
                base.runtime.executor.run(base.declared_job, combination.call)
            text = self._store.read(f"{combination.call.output}/{MANIFEST_NAME}")
            manifest = Manifest.decode(text, uri)
        except MlserviceError as error:
            self._record_failure(combination, error)
        else:
            self._record(combination, uri, self._value(manifest), is_complete=is_complete)
        self._progress.advance()

    def _record(
        self, combination: Combination, uri: str, value: float, *, is_complete: bool
    ) -> None:
        with self._lock:
            self.outcome.complete += is_complete
            self.outcome.ran += not is_complete
            self._rows.writerow((*combination.values.values(), value, uri, ""))
            best = self.outcome.best
            if best is None or self._sign * value > self._sign * best.metric:
                self.outcome.best = Best(combination.values, value, uri)

    def _value(self, manifest: Manifest) -> float:
        """The metric of a model; a job that does not give it makes the whole grid pointless."""
        if self._metric not in manifest.metrics:
            there = ", ".join(manifest.metrics) or "none"
            raise PipelineError(
                f"--metric {self._metric}: the job gives no such metric (there are: {there})"
            )
        return manifest.metrics[self._metric]

    def _record_failure(self, combination: Combination, error: MlserviceError) -> None:
        words = ", ".join(f"{name}={value}" for name, value in combination.values.items())
        with self._lock:
            self.outcome.failed += 1
            if self.outcome.failed <= _MAX_FAILURES:
                log.error("%s: %s", words, error)
            elif self.outcome.failed == _MAX_FAILURES + 1:
                log.error("more combinations fail; results.csv says why each did")
            row = (*combination.values.values(), "", "", str(error).replace("\n", " "))
            self._rows.writerow(row)
