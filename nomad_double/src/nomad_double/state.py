"""The state of the servers: one Raft index, the tables, and who is woken by a change.

Values in the tables are replaced, never changed, so a reader may keep a value. Every write happens
inside ``write()``, which is one entry of the log with one index. Blocking queries, check-and-set
and the event stream all rest on that index.
"""

from __future__ import annotations

import threading
import time
from bisect import bisect_left, insort
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from nomad_double.events import Broker, Change
from nomad_double.objects import Allocation, Deployment, Evaluation
from nomad_double.summary import Summary

Json = dict[str, Any]
Key = tuple[str, str]
_FIRST_INDEX = 10
_KEPT_VERSIONS = 6


class State:
    """The tables, with the indexes that blocking queries wait for."""

    def __init__(self) -> None:
        """Make an empty cluster whose log already has some entries."""
        self.lock = threading.RLock()
        self.changed = threading.Condition(self.lock)
        self.broker = Broker()
        self.index = _FIRST_INDEX
        self.tables: dict[str, int] = dict.fromkeys(
            ("jobs", "job_summary", "allocs", "evals", "deployment"), 1
        )
        self.namespaces: dict[str, Json] = {"default": _namespace("default", 1)}
        self.jobs: dict[Key, Json] = {}
        self.versions: dict[Key, list[Json]] = {}
        self.summaries: dict[Key, Summary] = {}
        self.allocs: dict[str, Allocation] = {}
        self.evals: dict[str, Evaluation] = {}
        self.deployments: dict[str, Deployment] = {}
        self.tokens: dict[tuple[str, str, str], str] = {}
        self.allocs_of: defaultdict[Key, list[str]] = defaultdict(list)
        self.evals_of: defaultdict[Key, list[str]] = defaultdict(list)
        self.deployments_of: defaultdict[Key, list[str]] = defaultdict(list)
        self.children_of: defaultdict[Key, set[str]] = defaultdict(set)
        self.ids: defaultdict[str, list[str]] = defaultdict(list)
        self.spurious = 0.0
        self.closed = False
        self._epoch = 0
        self._changed_jobs: dict[Key, None] = {}
        self._changes: list[Change] = []
        self._depth = 0

    @contextmanager
    def write(self) -> Iterator[int]:
        """Write one entry of the log. At its end statuses follow and readers are woken."""
        with self.lock:
            self._depth += 1
            if self._depth == 1:
                self.index += 1
            try:
                yield self.index
            finally:
                self._depth -= 1
                if self._depth == 0:
                    self._finish_write()

    def wait(self, current: Callable[[], int], beyond: int, seconds: float) -> None:
        """Block until ``current()`` exceeds ``beyond``, or the time is over."""
        end = time.monotonic() + min(seconds, self.spurious or seconds)
        with self.changed:
            while current() <= beyond and (left := end - time.monotonic()) > 0 and not self.closed:
                epoch = self._epoch
                self.changed.wait(left)
                if epoch != self._epoch:
                    return  # the index went backwards: a reader would wait too long

    def reset_index(self) -> None:
        """Let the index begin again, as after the restore of a snapshot into a new cluster."""
        with self.lock:
            self.index = _FIRST_INDEX
            self._epoch += 1
            self.tables = dict.fromkeys(self.tables, _FIRST_INDEX)
            for summary in self.summaries.values():
                summary.modify_index = _FIRST_INDEX
            self.jobs = {
                key: {**job, "ModifyIndex": min(job["ModifyIndex"], _FIRST_INDEX)}
                for key, job in self.jobs.items()
            }
            self.changed.notify_all()

    def close(self) -> None:
        """Wake all readers for the last time."""
        with self.lock:
            self.closed = True
            self.broker.close()
            self.changed.notify_all()

    def put_job(self, job: Json) -> Json:
        """Insert or replace a job as a new version, and set its indexes."""
        key = job["Namespace"], job["ID"]
        old = self.jobs.get(key)
        version = old["Version"] + 1 if old else 0
        job = {
            **job, "Version": version, "Stable": False,
            "CreateIndex": old["CreateIndex"] if old else self.index, "ModifyIndex": self.index,
            "JobModifyIndex": self.index, "Status": old["Status"] if old else "pending",
        }  # fmt: skip
        self.jobs[key] = job
        if old is None:
            self._index_new(key, job)
        kept = self.versions.setdefault(key, [])
        kept.insert(0, job)
        del kept[_KEPT_VERSIONS:]
        self._note_summary(key, job)
        self.tables["jobs"] = self.index
        self._changed_jobs[key] = None
        return job

    def replace_job(self, job: Json) -> None:
        """Change a job without a new version: its status, or whether it is stable."""
        key = job["Namespace"], job["ID"]
        job["ModifyIndex"] = self.index
        self.jobs[key] = job
        kept = self.versions[key]
        for i, version in enumerate(kept):
            if version["Version"] == job["Version"]:
                kept[i] = job
        self.tables["jobs"] = self.index

    def mark_stable(self, key: Key, version: int, stable: bool) -> bool:
        """Set ``Stable`` of one version; False if there is no such version."""
        for i, kept in enumerate(self.versions.get(key, [])):
            if kept["Version"] == version:
                changed = {**kept, "Stable": stable}
                self.versions[key][i] = changed
                if self.jobs[key]["Version"] == version:
                    self.replace_job(changed)
                self.tables["jobs"] = self.index
                return True
        return False

    def delete_job(self, key: Key) -> None:
        """Remove a job and all that belongs to it. Its children stay."""
        job = self.jobs.pop(key)
        namespace, name = key
        ids = self.ids[namespace]
        del ids[bisect_left(ids, name)]
        self.versions.pop(key, None)
        self.summaries.pop(key, None)
        if job["ParentID"]:
            self.children_of[namespace, job["ParentID"]].discard(name)
            token = job["DispatchIdempotencyToken"]
            if self.tokens.get((namespace, job["ParentID"], token)) == name:
                del self.tokens[namespace, job["ParentID"], token]
        for deployment in self.deployments_of.pop(key, []):
            self.deployments.pop(deployment, None)
        for table in ("jobs", "job_summary", "deployment"):
            self.tables[table] = self.index
        self._changed_jobs.pop(key, None)
        self.note("Job", "JobDeregistered", name, namespace, job)

    def put_alloc(self, alloc: Allocation, *, client: bool = False) -> Allocation:
        """Insert or replace an allocation; ``client``: its node reports it."""
        old = self.allocs.get(alloc.id)
        alloc = replace(
            alloc,
            create_index=old.create_index if old else self.index,
            modify_index=self.index,
            alloc_modify_index=alloc.alloc_modify_index if client else self.index,
            modify_time=time.time_ns(),
        )
        self.allocs[alloc.id] = alloc
        if old is None:
            self.allocs_of[alloc.key].append(alloc.id)
        self._count(alloc, old)
        self.tables["allocs"] = self.index
        self._changed_jobs[alloc.key] = None
        kind = "AllocationUpdated" if client else "PlanResult"
        self.note(
            "Allocation", kind, alloc.id, alloc.key[0], alloc, alloc.key[1], alloc.deployment_id
        )
        return alloc

    def put_eval(self, evaluation: Evaluation) -> Evaluation:
        """Insert or replace an evaluation."""
        old = self.evals.get(evaluation.id)
        evaluation = replace(
            evaluation,
            create_index=old.create_index if old else self.index,
            modify_index=self.index,
            modify_time=time.time_ns(),
        )
        self.evals[evaluation.id] = evaluation
        if old is None:
            self.evals_of[evaluation.key].append(evaluation.id)
        self.tables["evals"] = self.index
        self._changed_jobs[evaluation.key] = None
        self.note(
            "Evaluation", "EvaluationUpdated", evaluation.id, evaluation.namespace, evaluation,
            evaluation.job_id, evaluation.deployment_id,
        )  # fmt: skip
        return evaluation

    def put_deployment(
        self, deployment: Deployment, kind: str = "DeploymentStatusUpdate"
    ) -> Deployment:
        """Insert or replace a deployment."""
        old = self.deployments.get(deployment.id)
        deployment = replace(
            deployment,
            create_index=old.create_index if old else self.index,
            modify_index=self.index,
            modify_time=time.time_ns(),
        )
        self.deployments[deployment.id] = deployment
        if old is None:
            self.deployments_of[deployment.key].append(deployment.id)
        self.tables["deployment"] = self.index
        self._changed_jobs[deployment.key] = None
        self.note(
            "Deployment", kind, deployment.id, deployment.namespace, deployment, deployment.job_id
        )
        return deployment

    def delete_allocs(self, key: Key) -> None:
        """Remove a job's allocations and evaluations."""
        for name in self.allocs_of.pop(key, []):
            self.allocs.pop(name, None)
        for name in self.evals_of.pop(key, []):
            self.evals.pop(name, None)
        self.tables["allocs"] = self.tables["evals"] = self.index

    def queue(self, key: Key, group: str, count: int) -> None:
        """Set how many allocations of a group wait for resources."""
        summary = self.summaries.get(key)
        if summary and summary.queue(group, count):
            self._summary_changed(summary)

    def note(self, topic: str, kind: str, key: str, namespace: str, value: Any, *also: str) -> None:
        """Add a change for the event stream; ``also`` are more keys that filters may name."""
        self._changes.append(Change(topic, kind, key, namespace, value, tuple(filter(None, also))))

    def allocations(self, key: Key) -> list[Allocation]:
        """Return a job's allocations, the oldest first."""
        return [self.allocs[name] for name in self.allocs_of.get(key, ())]

    def evaluations(self, key: Key) -> list[Evaluation]:
        """Return a job's evaluations, the oldest first."""
        return [self.evals[name] for name in self.evals_of.get(key, ())]

    def latest_deployment(self, key: Key) -> Deployment | None:
        """Return the job's newest deployment."""
        names = self.deployments_of.get(key)
        return self.deployments[names[-1]] if names else None

    def prefixed(self, namespace: str, prefix: str) -> Iterator[Json]:
        """Yield the namespace's jobs whose IDs begin with ``prefix``, sorted by ID."""
        ids = self.ids.get(namespace, [])
        for i in range(bisect_left(ids, prefix), len(ids)):
            if not ids[i].startswith(prefix):
                return
            yield self.jobs[namespace, ids[i]]

    def _index_new(self, key: Key, job: Json) -> None:
        namespace, name = key
        insort(self.ids[namespace], name)
        if job["ParentID"]:
            self.children_of[namespace, job["ParentID"]].add(name)
            token = job["DispatchIdempotencyToken"]
            if token:
                self.tokens.setdefault((namespace, job["ParentID"], token), name)
            self._move_child(key, job, None, "pending")

    def _note_summary(self, key: Key, job: Json) -> None:
        summary = self.summaries.get(key)
        parent = bool(
            job["Periodic"] or (job["ParameterizedJob"] is not None and not job["Dispatched"])
        )
        if summary is None:
            summary = self.summaries[key] = Summary(*key, parent, self.index, self.index)
        summary.note_groups(
            [group["Name"] for group in job["TaskGroups"] or []] if not parent else []
        )
        self._summary_changed(summary)

    def _summary_changed(self, summary: Summary) -> None:
        summary.modify_index = self.index
        self.tables["job_summary"] = self.index

    def _count(self, alloc: Allocation, old: Allocation | None) -> None:
        summary = self.summaries.get(alloc.key)
        before = old.client_status if old else None
        if summary and before != alloc.client_status:
            summary.move(alloc.group, before, alloc.client_status)
            self._summary_changed(summary)

    def _move_child(self, key: Key, job: Json, before: str | None, after: str) -> None:
        summary = self.summaries.get((key[0], job["ParentID"]))
        if summary:
            summary.move_child(before, after)
            self._summary_changed(summary)

    def _finish_write(self) -> None:
        for key in self._changed_jobs:
            job = self.jobs.get(key)
            if job is None:
                continue
            status = self._status(key, job)
            if status != job["Status"]:
                if job["ParentID"]:
                    self._move_child(key, job, job["Status"], status)
                self.replace_job({**job, "Status": status})
        self._changed_jobs.clear()
        self.broker.publish(self.index, self._changes)
        self._changes = []
        self.changed.notify_all()

    def _status(self, key: Key, job: Json) -> str:
        """Return the job's status by Nomad's rule: failed and successful jobs are both dead."""
        parameterized = job["ParameterizedJob"] is not None and not job["Dispatched"]
        if parameterized or job["Periodic"] or job["Type"] == "system":
            return "dead" if job["Stop"] else "running"
        deployment = self.latest_deployment(key)
        if deployment and deployment.active:
            return "running"
        names = self.allocs_of.get(key, ())
        if any(not self.allocs[name].terminal for name in reversed(names)):
            return "running"
        evals = self.evals_of.get(key, ())
        if any(not self.evals[name].terminal for name in reversed(evals)):
            return "pending"
        return "dead" if evals or names else job["Status"]


def _namespace(name: str, index: int) -> Json:
    return {
        "Name": name, "Description": "Default shared namespace" if name == "default" else "",
        "Quota": "", "Capabilities": None, "Meta": None, "NodePoolConfiguration": None,
        "CreateIndex": index, "ModifyIndex": index,
    }  # fmt: skip
