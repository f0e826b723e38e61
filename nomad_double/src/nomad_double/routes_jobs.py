"""The API's routes for jobs.

Handlers only read the request and shape the answer; the server does the work.
"""

from __future__ import annotations

import base64
from typing import Any

from mlservice.jobspec import HclError, parse_job
from mlservice.jobspec.versions import at_least
from nomad_double.acl import Acl
from nomad_double.api import Api
from nomad_double.canonical import canonical
from nomad_double.planning import plan_answer, versions_answer
from nomad_double.queries import (
    Page,
    Query,
    blocking,
    field,
    listed,
    read_body,
    read_query,
)
from nomad_double.refusal import ApiError
from nomad_double.server import Server
from nomad_double.state import Key
from nomad_double.transport import Answer, Request, as_json
from nomad_double.validate import job_errors, job_warnings, multierror

Json = dict[str, Any]
_STUB = (
    "ID", "ParentID", "Name", "Namespace", "Datacenters", "NodePool", "Type", "Priority", "Stop",
    "Status", "StatusDescription", "CreateIndex", "ModifyIndex", "JobModifyIndex", "SubmitTime",
)  # fmt: skip


class JobRoutes:
    """Handlers for ``/v1/jobs`` and ``/v1/job/...``."""

    def __init__(self, server: Server, acl: Acl) -> None:
        """Answer from ``server``, for tokens that ``acl`` allows."""
        self._server = server
        self._state = server.state
        self._acl = acl

    def add_to(self, api: Api) -> None:
        """Add the routes."""
        api.add("GET", "/v1/jobs", self.read_list)
        api.add("POST", "/v1/jobs", self.register)
        api.add("POST", "/v1/jobs/parse", self.parse)
        api.add("POST", "/v1/validate/job", self.validate)
        api.add("GET", "/v1/job/:id", self.read)
        api.add("POST", "/v1/job/:id", self.register)
        api.add("DELETE", "/v1/job/:id", self.deregister)
        for name, handler in (
            ("plan", self.plan), ("dispatch", self.dispatch), ("periodic/force", self.force),
            ("dispatch/payload", self.dispatch_payload), ("revert", self.revert),
            ("stable", self.stable), ("evaluate", self.evaluate), ("scale", self.scale),
        ):  # fmt: skip
            api.add("POST", f"/v1/job/:id/{name}", handler)
        for name, handler in (
            ("summary", self.summary), ("allocations", self.allocations),
            ("evaluations", self.evaluations), ("deployments", self.deployments),
            ("deployment", self.deployment), ("versions", self.versions),
        ):  # fmt: skip
            api.add("GET", f"/v1/job/:id/{name}", handler)

    def parse(self, request: Request) -> Answer:
        """Answer with the job of a jobspec's text."""
        self._acl.check(request.token, "parse-job", "submit-job", raw=True)
        body = read_body(request)
        hcl = field(body, "JobHCL", "")
        if not hcl:
            raise ApiError("Job spec is empty", 400)
        version = self._server.version
        variables = field(body, "Variables", "") if at_least(version, "1.6.0") else ""
        try:
            job = parse_job(hcl, variables, version)
        except HclError as error:
            raise ApiError(f"Failed to parse job: {error}", 400) from None
        return as_json(canonical(job) if field(body, "Canonicalize", False) else job)

    def validate(self, request: Request) -> Answer:
        """Answer whether a job could be registered, always with 200."""
        self._acl.check(request.token, "read-job", "submit-job")
        job = canonical(_job_of(read_body(request)))
        errors = job_errors(job)
        return as_json(
            {
                "DriverConfigValidated": False, "ValidationErrors": errors or None,
                "Error": multierror(errors) if errors else "",
                "Warnings": job_warnings(job, oversubscription=self._server.oversubscription),
            }
        )  # fmt: skip

    def register(self, request: Request, name: str = "") -> Answer:
        """Register or update a job."""
        self._acl.check(request.token, "submit-job")
        body = read_body(request)
        job = _job_of(body)
        if not field(job, "ID"):
            raise ApiError("Job ID hasn't been provided", 400)
        if name and field(job, "ID") != name:
            raise ApiError("Job ID does not match name", 400)
        self._check_accepting(request)
        enforce = (
            int(field(body, "JobModifyIndex", 0)) if field(body, "EnforceIndex", False) else None
        )
        answer = self._server.register(job, _namespace(request, body, job), enforce)
        return as_json(answer, answer["Index"])

    def read_list(self, request: Request) -> Answer:
        """Answer with stubs of jobs.

        Any change of a job or a summary in the cluster wakes a blocking query.
        """
        query = read_query(request)
        if query.namespace != "*" or not self._acl.on:
            self._acl.check(request.token, "list-jobs")
        elif not self._acl.allows(request.token, "list-jobs"):
            return as_json([], self._state.index)
        with_meta = request.arg("meta") == "true"
        tables = self._state.tables

        def value() -> Page:
            return listed(
                query, self._jobs_of_query(query), lambda job: job,
                lambda job: f"{job['Namespace']}.{job['ID']}",
                lambda job: self._stub(job, with_meta=with_meta),
            )  # fmt: skip

        return blocking(
            self._state, query, lambda: max(tables["jobs"], tables["job_summary"]), value
        )

    def read(self, request: Request, name: str) -> Answer:
        """Answer with the whole job. A query may also wait for a job that is missing."""
        self._acl.check(request.token, "read-job")
        query = read_query(request)
        key = query.namespace, name

        def index() -> int:
            job = self._state.jobs.get(key)
            return int(job["ModifyIndex"]) if job else self._state.tables["jobs"]

        return blocking(self._state, query, index, lambda: self._job_or_error(key))

    def deregister(self, request: Request, name: str) -> Answer:
        """Stop a job, or purge it."""
        self._acl.check(request.token, "submit-job", "deregister-job")
        key = request.arg("namespace") or "default", name
        answer = self._server.deregister(key, purge=request.arg("purge") in ("true", "1"))
        return as_json(answer, answer["Index"])

    def plan(self, request: Request, name: str) -> Answer:
        """Answer with what registering the job would do."""
        self._acl.check(request.token, "submit-job", "plan-job")
        body = read_body(request)
        job = _job_of(body)
        if not field(job, "ID"):
            raise ApiError("Job must have a valid ID", 400)
        if field(job, "ID") != name:
            raise ApiError("Job ID does not match", 400)
        found, warnings = self._server.validated(job, _namespace(request, body, job))
        answer = plan_answer(self._server, found, warnings, diff=bool(field(body, "Diff", False)))
        return as_json(answer, self._state.index)

    def dispatch(self, request: Request, name: str) -> Answer:
        """Make a child of a parameterized job."""
        self._acl.check(request.token, "dispatch-job")
        self._check_accepting(request)
        body = read_body(request)
        given = field(body, "JobID")
        if given and given != name:
            raise ApiError("Job ID does not match", 400)
        return self._dispatched(
            request, name, _dispatch_body(body), field(body, "IdempotencyToken", "")
        )

    def dispatch_payload(self, request: Request, name: str) -> Answer:
        """Make a child with the body as its payload."""
        if not at_least(self._server.version, "1.9.0"):
            return self.register(request, f"{name}/dispatch/payload")
        self._acl.check(request.token, "dispatch-job")
        payload = base64.b64encode(request.body).decode()
        return self._dispatched(request, name, {"Payload": payload}, "")

    def _dispatched(self, request: Request, name: str, body: Json, token: str) -> Answer:
        key = request.arg("namespace") or "default", name
        token = request.arg("idempotency_token") or token
        answer = self._server.dispatch(key, body, token)
        return as_json(answer, answer["Index"])

    def force(self, request: Request, name: str) -> Answer:
        """Launch a periodic job now."""
        self._acl.check(request.token, "dispatch-job", "submit-job", "force-periodic-job")
        answer = self._server.force((request.arg("namespace") or "default", name))
        return as_json(answer, answer["Index"])

    def revert(self, request: Request, name: str) -> Answer:
        """Register an earlier version again."""
        self._acl.check(request.token, "submit-job")
        body = read_body(request)
        if not field(body, "JobID"):
            raise ApiError("JobID must be specified", 400)
        if field(body, "JobID") != name:
            raise ApiError("Job ID does not match", 400)
        key = request.arg("namespace") or "default", name
        prior = field(body, "EnforcePriorVersion")
        answer = self._server.revert(key, int(field(body, "JobVersion", 0)), prior)
        return as_json(answer, answer["Index"])

    def stable(self, request: Request, name: str) -> Answer:
        """Mark a version as stable or not stable."""
        self._acl.check(request.token, "submit-job")
        body = read_body(request)
        key = request.arg("namespace") or "default", name
        with self._state.write() as index:
            found = self._state.mark_stable(
                key, int(field(body, "JobVersion", 0)), bool(field(body, "Stable", False))
            )
        if not found:
            raise ApiError(f'job "{name}" in namespace "{key[0]}" not found')
        return as_json({"Index": index, "LastContact": 0, "KnownLeader": False}, index)

    def evaluate(self, request: Request, name: str) -> Answer:
        """Let the scheduler evaluate the job."""
        self._acl.check(request.token, "read-job")
        body = read_body(request) if request.body else {}
        options = field(body, "EvalOptions", {})
        key = request.arg("namespace") or "default", name
        answer = self._server.evaluate(key, force=bool(options.get("ForceReschedule")))
        return as_json(answer, answer["Index"])

    def scale(self, request: Request, name: str) -> Answer:
        """Change the count of a group."""
        self._acl.check(request.token, "submit-job", "scale-job")
        body = read_body(request)
        key = request.arg("namespace") or "default", name
        group = (field(body, "Target") or {}).get("Group")
        answer = self._server.scale(key, group, field(body, "Count"))
        return as_json(answer, answer["Index"])

    def summary(self, request: Request, name: str) -> Answer:
        """Answer with the job's counts."""
        self._acl.check(request.token, "read-job")
        query = read_query(request)
        key = query.namespace, name

        def index() -> int:
            found = self._state.summaries.get(key)
            return found.modify_index if found else self._state.tables["job_summary"]

        def value() -> Any:
            found = self._state.summaries.get(key)
            return found.json() if found else ApiError("job not found", 404)

        return blocking(self._state, query, index, value)

    def allocations(self, request: Request, name: str) -> Answer:
        """Answer with stubs of the job's allocations; the index is that of the whole table."""
        self._acl.check(request.token, "read-job")
        query = read_query(request)
        key = query.namespace, name
        every = request.arg("all") in ("true", "1")

        def value() -> Any:
            job = self._state.jobs.get(key)
            return [
                alloc.stub()
                for alloc in self._state.allocations(key)
                if every or job is None or alloc.job["CreateIndex"] == job["CreateIndex"]
            ]

        return blocking(self._state, query, lambda: self._state.tables["allocs"], value)

    def evaluations(self, request: Request, name: str) -> Answer:
        """Answer with the job's evaluations."""
        self._acl.check(request.token, "read-job")
        query = read_query(request)
        return blocking(
            self._state, query, lambda: self._state.tables["evals"],
            lambda: [each.json() for each in self._state.evaluations((query.namespace, name))],
        )  # fmt: skip

    def deployments(self, request: Request, name: str) -> Answer:
        """Answer with the job's deployments."""
        self._acl.check(request.token, "read-job")
        query = read_query(request)
        key = query.namespace, name
        return blocking(
            self._state, query, lambda: self._state.tables["deployment"],
            lambda: [
                self._state.deployments[each].json()
                for each in self._state.deployments_of.get(key, ())
            ],
        )  # fmt: skip

    def deployment(self, request: Request, name: str) -> Answer:
        """Answer with the job's latest deployment, or null."""
        self._acl.check(request.token, "read-job")
        query = read_query(request)

        def value() -> Any:
            found = self._state.latest_deployment((query.namespace, name))
            return found.json() if found else None

        return blocking(self._state, query, lambda: self._state.tables["deployment"], value)

    def versions(self, request: Request, name: str) -> Answer:
        """Answer with the job's versions, the newest first."""
        self._acl.check(request.token, "read-job")
        query = read_query(request)
        key, diffs = (query.namespace, name), request.arg("diffs") in ("true", "1")

        def value() -> Any:
            kept = self._state.versions.get(key)
            return (
                versions_answer(kept, diffs=diffs)
                if kept
                else ApiError("job versions not found", 404)
            )

        return blocking(self._state, query, lambda: self._state.tables["jobs"], value)

    def _job_or_error(self, key: Key) -> Any:
        return self._state.jobs.get(key) or ApiError("job not found", 404)

    def _jobs_of_query(self, query: Query) -> list[Json]:
        names = sorted(self._state.namespaces) if query.namespace == "*" else [query.namespace]
        return [job for name in names for job in self._state.prefixed(name, query.prefix)]

    def _stub(self, job: Json, *, with_meta: bool) -> Json:
        found = {key: job[key] for key in _STUB}
        found["Periodic"] = bool(job["Periodic"])
        found["ParameterizedJob"] = job["ParameterizedJob"] is not None
        found["Multiregion"] = None
        found["JobSummary"] = self._state.summaries[job["Namespace"], job["ID"]].json()
        if with_meta:
            found["Meta"] = job["Meta"]
        return found

    def _check_accepting(self, request: Request) -> None:
        if self._server.rejects_jobs and not self._acl.allows(request.token, "management"):
            raise ApiError(
                "Job registration, dispatch, and scale are disabled by the scheduler configuration",
                403,
            )


def _job_of(body: Json) -> Json:
    job = field(body, "Job")
    if not isinstance(job, dict):
        raise ApiError("Job must be specified", 400)
    return job


def _namespace(request: Request, body: Json, job: Json) -> str:
    for found in (request.arg("namespace"), field(body, "Namespace"), field(job, "Namespace")):
        if found:
            return str(found)
    return "default"


def _dispatch_body(body: Json) -> Json:
    meta = field(body, "Meta", {})
    for value in meta.values():
        if not isinstance(value, str):
            kind = {bool: "bool", dict: "object", list: "array"}.get(type(value), "number")
            raise ApiError(
                f"json: cannot unmarshal {kind} into Go struct field JobDispatchRequest.Meta of "
                "type string", 400,
            )  # fmt: skip
    return {
        "Payload": field(body, "Payload"), "Meta": meta, "Priority": field(body, "Priority", 0),
        "IdPrefixTemplate": field(body, "IdPrefixTemplate", ""),
    }  # fmt: skip
