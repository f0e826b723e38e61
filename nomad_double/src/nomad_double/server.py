"""What Nomad's servers do with jobs: register, dispatch, stop, revert, force, collect garbage.

It is the API without HTTP: the routes shape requests and answers, and this module has the rules.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from mlservice.jobspec.versions import at_least
from nomad_double.canonical import canonical
from nomad_double.client import Client, Report
from nomad_double.dispatching import check_dispatch, decoded_payload, make_child
from nomad_double.group_plan import LOST, reschedule_time
from nomad_double.node import Node
from nomad_double.objects import Allocation, Evaluation
from nomad_double.refusal import ApiError
from nomad_double.scheduler import Scheduler
from nomad_double.state import Key, State
from nomad_double.validate import job_errors, job_warnings, multierror

Json = dict[str, Any]
_IGNORED = (
    "Status", "StatusDescription", "Stable", "Version", "CreateIndex", "ModifyIndex",
    "JobModifyIndex", "SubmitTime", "VersionTag",
)  # fmt: skip
_UNCHANGEABLE = (
    ("Periodic", "periodic"),
    ("ParameterizedJob", "parameterized"),
)


class Server:
    """The servers. Every method may be called from any thread."""

    def __init__(
        self, state: State, node: Node, scheduler: Scheduler, client: Client, version: str
    ) -> None:
        """Join the parts."""
        self.state = state
        self.node = node
        self.scheduler = scheduler
        self.client = client
        self.version = version
        self.oversubscription = True
        self.rejects_jobs = False
        self.racy_tokens = False
        self.on_health: Callable[[Allocation, bool], Allocation] = lambda alloc, _: alloc
        client.report = self.take_reports

    def validated(self, body: Json, namespace: str) -> tuple[Json, str]:
        """Return a request's canonical job and its warnings; raise ``ApiError`` for errors."""
        job = canonical({**body, "Namespace": namespace})
        errors = job_errors(job)
        if errors:
            raise ApiError(multierror(errors))
        return job, job_warnings(job, oversubscription=self.oversubscription)

    def register(self, body: Json, namespace: str, enforce: int | None = None) -> Json:
        """Register a job; ``enforce`` is the JobModifyIndex that it must have (0: no such job)."""
        job, warnings = self.validated(body, namespace)
        key = namespace, job["ID"]
        with self.state.write():
            old = self.state.jobs.get(key)
            _enforce(old, enforce)
            _check_kind(old, job)
            if namespace not in self.state.namespaces:
                raise ApiError(f'job "{job["ID"]}" is in nonexistent namespace "{namespace}"')
            stored, fresh = self._store(job, old)
            evaluation = self._evaluation(stored, "job-register")
            if fresh:
                self.state.note("Job", "JobRegistered", job["ID"], namespace, stored)
            return {
                "EvalID": evaluation.id if evaluation else "",
                "EvalCreateIndex": evaluation.create_index if evaluation else 0,
                # A quirk of Nomad's: an unchanged job is answered with another index.
                "JobModifyIndex": stored["JobModifyIndex" if fresh else "ModifyIndex"],
                "Warnings": warnings, "Index": self.state.index, "LastContact": 0,
                "KnownLeader": False, "NextToken": "",
            }  # fmt: skip

    def _store(self, job: Json, old: Json | None) -> tuple[Json, bool]:
        if old is not None and _is_unchanged(old, job):
            return old, False
        return self.state.put_job({**job, "SubmitTime": time.time_ns()}), True

    def _evaluation(self, job: Json, reason: str) -> Evaluation | None:
        """Make the evaluation of a job that can run. Parents of children get none."""
        if job["Periodic"] or (job["ParameterizedJob"] is not None and not job["Dispatched"]):
            return None
        return self.scheduler.evaluate(job, reason)

    def dispatch(self, key: Key, body: Mapping[str, Any], token: str) -> Json:
        """Make a child of a parameterized job, or return the child that has the token."""
        namespace, name = key
        payload, meta = decoded_payload(body), body.get("Meta") or {}
        with self.state.lock:
            parent = self.state.jobs.get(key)
            check_dispatch(parent, name, payload, meta, body.get("Priority") or 0)
            found = self._find_token(namespace, name, token)
        if found is not None:
            return found
        if self.racy_tokens and token:
            time.sleep(0.05)  # the other request makes its child in this time
        with self.state.write():
            if not self.racy_tokens:
                found = self._find_token(namespace, name, token)
                if found is not None:
                    return found
            parent = self.state.jobs[key]
            child = self.state.put_job(make_child(parent, payload, meta, token, body))
            evaluation = self._evaluation(child, "job-register")
            self.state.note("Job", "JobRegistered", child["ID"], namespace, child)
            return {
                "DispatchedJobID": child["ID"], "EvalID": evaluation.id if evaluation else "",
                "EvalCreateIndex": evaluation.create_index if evaluation else 0,
                "JobCreateIndex": child["CreateIndex"], "Index": self.state.index,
            }  # fmt: skip

    def _find_token(self, namespace: str, parent: str, token: str) -> Json | None:
        child = self.state.tokens.get((namespace, parent, token)) if token else None
        if child is None or not at_least(self.version, "1.1.3"):
            return None
        job = self.state.jobs[namespace, child]
        return {
            "DispatchedJobID": child, "EvalID": "", "EvalCreateIndex": 0,
            "JobCreateIndex": job["CreateIndex"], "Index": job["ModifyIndex"],
        }  # fmt: skip

    def deregister(self, key: Key, *, purge: bool) -> Json:
        """Stop a job. A missing one is no error, and its children go on."""
        empty = {
            "EvalID": "", "EvalCreateIndex": 0, "JobModifyIndex": 0, "VolumeEvalID": "",
            "VolumeEvalIndex": 0, "LastContact": 0, "KnownLeader": False, "NextToken": "",
        }  # fmt: skip
        with self.state.write():
            job = self.state.jobs.get(key)
            if job is None:
                return {**empty, "Index": self.state.index}
            evaluation = self._evaluation(job, "job-deregister")
            if purge:
                self.state.delete_job(key)
            else:
                job = self.state.put_job({**job, "Stop": True})
                self.state.note("Job", "JobDeregistered", key[1], key[0], job)
            return {
                **empty, "EvalID": evaluation.id if evaluation else "",
                "EvalCreateIndex": evaluation.create_index if evaluation else 0,
                "JobModifyIndex": self.state.index, "Index": self.state.index,
            }  # fmt: skip

    def stop_alloc(self, name: str) -> Json:
        """Stop one allocation and let another be placed."""
        with self.state.write():
            alloc = self.state.allocs.get(name)
            if alloc is None:
                raise ApiError("allocation not found", 404)
            job = self.state.jobs.get(alloc.key)
            stopped = self.state.put_alloc(replace(alloc, desired_status="stop"))
            self.client.stop(stopped)
            evaluation = self.scheduler.evaluate(job, "alloc-stop") if job else None
            return {"EvalID": evaluation.id if evaluation else "", "Index": self.state.index}

    def evaluate(self, key: Key, *, force: bool) -> Json:
        """Let the scheduler evaluate a job; ``force`` replaces failed allocations at once."""
        with self.state.write():
            job = self._job(key)
            if job["Periodic"]:
                raise ApiError("can't evaluate periodic job")
            if job["ParameterizedJob"] is not None and not job["Dispatched"]:
                raise ApiError("can't evaluate parameterized job")
            for alloc in self.state.allocations(key) if force else ():
                if alloc.client_status == "failed" and not alloc.next:
                    marked = {"ForceReschedule": True, "Reschedule": True}
                    self.state.put_alloc(replace(alloc, transition=marked))
            evaluation = self.scheduler.evaluate(job, "job-register")
            return _registered(evaluation, job, self.state.index)

    def revert(self, key: Key, version: int, prior: int | None) -> Json:
        """Register an earlier version of a job as its newest."""
        with self.state.write():
            job = self._job(key, f'job "{key[1]}" not found')
            if prior is not None and prior != job["Version"]:
                raise ApiError(
                    f"Current job has version {job['Version']}; enforcing version {prior}"
                )
            if version == job["Version"]:
                raise ApiError("can't revert to current version")
            old = next((j for j in self.state.versions[key] if j["Version"] == version), None)
            if old is None:
                raise ApiError(
                    f'job "{key[1]}" in namespace "{key[0]}" at version {version} not found'
                )
            stored = self.reinstate(old)
            return _registered(self._evaluation(stored, "job-register"), stored, self.state.index)

    def reinstate(self, old: Json) -> Json:
        """Register an old version's specification as a new version, inside a write."""
        stored = self.state.put_job({**old, "Stop": False, "SubmitTime": time.time_ns()})
        self.state.note("Job", "JobRegistered", stored["ID"], stored["Namespace"], stored)
        return stored

    def scale(self, key: Key, group: str | None, count: int | None) -> Json:
        """Change the count of one group."""
        with self.state.write():
            job = self._job(key, status=404)
            names = [each["Name"] for each in job["TaskGroups"]]
            if group not in names:
                raise ApiError(
                    f'task group "{group}" specified for scaling does not exist in job', 400
                )
            groups = [
                {**each, "Count": count} if each["Name"] == group and count is not None else each
                for each in job["TaskGroups"]
            ]
            stored = self.state.put_job({**job, "TaskGroups": groups})
            return _registered(self._evaluation(stored, "job-scaling"), stored, self.state.index)

    def force(self, key: Key) -> Json:
        """Launch a periodic job now, even if a child runs."""
        with self.state.write():
            job = self._job(key)
            if not job["Periodic"]:
                raise ApiError("can't force launch non-periodic job")
            tracked = (
                job["Periodic"]["Enabled"] and not job["Stop"] and job["ParameterizedJob"] is None
            )
            if not tracked:
                raise ApiError(
                    f'force launch for job "{key[1]}" failed: can\'t force run non-tracked job '
                    f'"{key[1]}" ({key[0]})'
                )
            evaluation = self.launch(job, int(time.time()))
            return {
                "EvalID": evaluation.id, "EvalCreateIndex": evaluation.create_index,
                "Index": self.state.index,
            }  # fmt: skip

    def launch(self, job: Json, moment: int) -> Evaluation:
        """Make a periodic job's child for a moment (s since the epoch), inside a write."""
        name = f"{job['ID']}/periodic-{moment}"
        child = self.state.put_job(
            {
                **job, "ID": name, "Name": name, "ParentID": job["ID"], "Periodic": None,
                "Status": "", "Stable": False, "SubmitTime": time.time_ns(),
            }
        )  # fmt: skip
        self.state.note("Job", "JobRegistered", name, job["Namespace"], child)
        return self.scheduler.evaluate(child, "periodic-job")

    def lose_node(self) -> None:
        """Let the node die. Its allocations are lost, and replaced on the next node."""
        self.client.lose()
        with self.state.write():
            self.node.replaced()
            touched: dict[Key, None] = {}
            for alloc in list(self.state.allocs.values()):
                if not alloc.ended:
                    lost = replace(alloc, client_status="lost", client_description=LOST)
                    self.state.put_alloc(lost)
                    self.node.release(alloc.id)
                    touched[alloc.key] = None
            for key in touched:
                if key in self.state.jobs:
                    self.scheduler.evaluate(self.state.jobs[key], "node-update")

    def block_placement(self, reason: str) -> None:
        """Let nothing be placed for this reason; "" ends it."""
        with self.state.write():
            self.node.refusal = reason
            if not reason:
                self.scheduler.retry_blocked()

    def _job(self, key: Key, refusal: str = "job not found", status: int = 500) -> Json:
        job = self.state.jobs.get(key)
        if job is None:
            raise ApiError(refusal, status)
        return job

    def take_reports(self, reports: list[Report]) -> None:
        """Record the client's reports on its allocations as one entry of the log."""
        with self.state.write():
            freed = False
            for report in reports:
                freed |= self._take_report(report)
            if freed:
                self.scheduler.freed()

    def _take_report(self, report: Report) -> bool:
        alloc = self.state.allocs.get(report.alloc)
        if alloc is None or alloc.client_status == "lost":
            return self.node.release(report.alloc) if report.ended else False
        changed = self.state.put_alloc(
            replace(
                alloc,
                client_status=report.status,
                client_description=report.description,
                task_states=report.tasks,
            ),
            client=True,
        )
        if report.healthy is not None and changed.deployment_id:
            changed = self.on_health(changed, report.healthy)
        if not changed.ended:
            return False
        job = self.state.jobs.get(alloc.key)
        if job and changed.client_status == "failed" and changed.desired_status == "run":
            policy = _policy(job, changed.group)
            if policy and not job["Stop"] and reschedule_time(changed, policy) is not None:
                self.scheduler.evaluate(job, "alloc-failure")
        return self.node.release(alloc.id)

    def collect_garbage(self) -> None:
        """Remove the dead jobs that Nomad would remove, with their allocations and logs."""
        with self.state.write():
            for key, job in list(self.state.jobs.items()):
                if self._collectable(key, job):
                    gone = self.state.allocations(key)
                    self.state.delete_job(key)
                    self.state.delete_allocs(key)
                    for alloc in gone:
                        self.client.forget(alloc.id)

    def _collectable(self, key: Key, job: Json) -> bool:
        if job["Status"] != "dead" or not (job["Stop"] or job["Type"] in ("batch", "sysbatch")):
            return False
        if any(not evaluation.terminal for evaluation in self.state.evaluations(key)):
            return False
        return all(alloc.ended for alloc in self.state.allocations(key))


def _enforce(old: Json | None, index: int | None) -> None:
    if index is None:
        return
    start = f"Enforcing job modify index {index}: job "
    if old is None:
        if index:
            raise ApiError(f"{start}does not exist")
    elif not index:
        raise ApiError(f"{start}already exists")
    elif index != old["JobModifyIndex"]:
        actual = old["JobModifyIndex"]
        raise ApiError(f"{start}exists with conflicting job modify index: {actual}")


def _check_kind(old: Json | None, job: Json) -> None:
    if job["Dispatched"] and not (old and old["Dispatched"]):
        raise ApiError("job can't be submitted with 'Dispatched' set")
    if old is None:
        return
    if old["Type"] != job["Type"]:
        raise ApiError(f'cannot update job from type "{old["Type"]}" to "{job["Type"]}"')
    for field, word in _UNCHANGEABLE:
        was = old[field] is not None and not (field == "ParameterizedJob" and old["Dispatched"])
        if was and job[field] is None:
            raise ApiError(f"cannot update {word} job to being non-{word}")
        if not was and job[field] is not None:
            raise ApiError(f"cannot update non-{word} job to being {word}")
    if old["Dispatched"] != job["Dispatched"]:
        raise ApiError("field 'Dispatched' is read-only")


def _is_unchanged(old: Json, job: Json) -> bool:
    return all(old[key] == value for key, value in job.items() if key not in _IGNORED)


def _registered(evaluation: Evaluation | None, job: Json, index: int) -> Json:
    return {
        "EvalID": evaluation.id if evaluation else "",
        "EvalCreateIndex": evaluation.create_index if evaluation else 0,
        "JobModifyIndex": job["JobModifyIndex"], "Warnings": "", "Index": index,
        "LastContact": 0, "KnownLeader": False, "NextToken": "",
    }  # fmt: skip


def _policy(job: Json, group: str) -> Json | None:
    return next(
        (g["ReschedulePolicy"] for g in job["TaskGroups"] or [] if g["Name"] == group), None
    )
