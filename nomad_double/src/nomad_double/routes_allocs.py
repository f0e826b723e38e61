"""The API's routes for allocations, evaluations and deployments, and for a task's logs.

Handlers only read the request and shape the answer; the server does the work.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nomad_double.acl import Acl
from nomad_double.api import Api
from nomad_double.deployments import Deployments
from nomad_double.logs import log_answer
from nomad_double.queries import blocking, field, listed, read_body, read_query
from nomad_double.refusal import ApiError
from nomad_double.server import Server
from nomad_double.transport import Answer, Request, as_json

Json = dict[str, Any]


class AllocRoutes:
    """Handlers for allocations, evaluations and deployments, and for the client's routes."""

    def __init__(self, server: Server, deployments: Deployments, acl: Acl) -> None:
        """Answer from ``server``, for tokens that ``acl`` allows."""
        self._server = server
        self._state = server.state
        self._deployments = deployments
        self._acl = acl

    def add_to(self, api: Api) -> None:
        """Add the routes."""
        api.add("GET", "/v1/allocations", self.allocations)
        api.add("GET", "/v1/allocation/:id", self.allocation)
        api.add("POST", "/v1/allocation/:id/stop", self.stop)
        api.add("POST", "/v1/client/allocation/:id/restart", self.restart)
        api.add("POST", "/v1/client/allocation/:id/signal", self.signal)
        api.add("GET", "/v1/client/fs/logs/:id", self.logs)
        api.add("GET", "/v1/evaluations", self.evaluations)
        api.add("GET", "/v1/evaluation/:id", self.evaluation)
        api.add("GET", "/v1/evaluation/:id/allocations", self.evaluation_allocations)
        api.add("GET", "/v1/deployments", self.deployments)
        api.add("GET", "/v1/deployment/:id", self.deployment)
        api.add("GET", "/v1/deployment/allocations/:id", self.deployment_allocations)
        for name, handler in (
            ("fail", self.fail), ("pause", self.pause), ("promote", self.promote),
            ("allocation-health", self.health),
        ):  # fmt: skip
            api.add("POST", f"/v1/deployment/{name}/:id", handler)

    def allocations(self, request: Request) -> Answer:
        """Answer with stubs of all allocations."""
        self._acl.check(request.token, "read-job")
        resources = request.arg("resources") in ("true", "1")
        states = request.arg("task_states", "true") not in ("false", "0")
        return self._list(
            request, "allocs", self._state.allocs,
            lambda alloc: {**alloc.stub(), "Job": alloc.job},
            lambda alloc: alloc.stub(resources=resources, task_states=states),
        )  # fmt: skip

    def allocation(self, request: Request, name: str) -> Answer:
        """Answer with one full allocation."""
        self._acl.check(request.token, "read-job")
        return self._one(request, "allocs", self._state.allocs, name, "alloc not found")

    def stop(self, request: Request, name: str) -> Answer:
        """Stop an allocation; another one takes its place."""
        self._acl.check(request.token, "alloc-lifecycle", "submit-job")
        answer = self._server.stop_alloc(name)
        return as_json(answer, answer["Index"])

    def restart(self, request: Request, name: str) -> Answer:
        """Restart one task, or all that run."""
        self._acl.check(request.token, "alloc-lifecycle", "submit-job")
        body = read_body(request) if request.body else {}
        runner = self._runner(name)
        wanted = field(body, "TaskName", "")
        if wanted and wanted not in runner.tasks:
            raise ApiError(f'Could not find task "{wanted}"')
        runner.restart([wanted] if wanted else list(runner.tasks))
        return as_json({"Index": self._state.index})

    def signal(self, request: Request, name: str) -> Answer:
        """Send a signal to one task, or to all."""
        self._acl.check(request.token, "alloc-lifecycle", "submit-job")
        body = read_body(request)
        runner = self._runner(name)
        wanted, sent = field(body, "TaskName") or field(body, "Task", ""), field(body, "Signal", "")
        if wanted and wanted not in runner.tasks:
            raise ApiError(f'Failed to signal task "{wanted}", err: task not found')
        for task in [wanted] if wanted else runner.tasks:
            try:
                runner.tasks[task].signal(
                    sent, f"Task being sent signal {sent}: User requested signal"
                )
            except ValueError as error:
                raise ApiError(f"{error}") from None
        return as_json({"Index": self._state.index})

    def logs(self, request: Request, name: str) -> Answer:
        """Answer with a task's log."""
        self._acl.check(request.token, "read-logs", "read-fs")
        return log_answer(self._state, self._server.client, request, name)

    def evaluations(self, request: Request) -> Answer:
        """Answer with all evaluations."""
        self._acl.check(request.token, "read-job")
        return self._list(
            request, "evals", self._state.evals, lambda each: each.json(), lambda each: each.json()
        )

    def evaluation(self, request: Request, name: str) -> Answer:
        """Answer with one evaluation; ``related=true`` adds those that belong to it."""
        self._acl.check(request.token, "read-job")
        related = request.arg("related") == "true"
        query = read_query(request)

        def value() -> Any:
            found = self._state.evals.get(name)
            if found is None:
                return ApiError("eval not found", 404)
            if not related:
                return found.json()
            names = (found.next, found.previous, found.blocked)
            others = [self._state.evals[n].stub() for n in names if n in self._state.evals]
            return {**found.json(), "RelatedEvals": others}

        return blocking(
            self._state, query, lambda: self._index(self._state.evals, name, "evals"), value
        )

    def evaluation_allocations(self, request: Request, name: str) -> Answer:
        """Answer with stubs of the allocations that an evaluation made."""
        self._acl.check(request.token, "read-job")

        def value() -> list[Json]:
            found = self._state.evals.get(name)
            allocs = self._state.allocations(found.key) if found else []
            return [alloc.stub() for alloc in allocs if alloc.eval_id == name]

        return blocking(
            self._state, read_query(request), lambda: self._state.tables["allocs"], value
        )

    def deployments(self, request: Request) -> Answer:
        """Answer with all deployments."""
        self._acl.check(request.token, "read-job")
        return self._list(
            request, "deployment", self._state.deployments,
            lambda each: each.json(), lambda each: each.json(),
        )  # fmt: skip

    def deployment(self, request: Request, name: str) -> Answer:
        """Answer with one deployment."""
        self._acl.check(request.token, "read-job")
        return self._one(
            request, "deployment", self._state.deployments, name, "deployment not found"
        )

    def deployment_allocations(self, request: Request, name: str) -> Answer:
        """Answer with stubs of a deployment's allocations."""
        self._acl.check(request.token, "read-job")

        def value() -> list[Json]:
            found = self._state.deployments.get(name)
            allocs = self._state.allocations(found.key) if found else []
            return [alloc.stub() for alloc in allocs if alloc.deployment_id == name]

        return blocking(
            self._state, read_query(request), lambda: self._state.tables["allocs"], value
        )

    def fail(self, request: Request, name: str) -> Answer:
        """Fail a deployment."""
        self._acl.check(request.token, "submit-job")
        return self._written(self._deployments.fail(name))

    def pause(self, request: Request, name: str) -> Answer:
        """Pause or resume a deployment."""
        self._acl.check(request.token, "submit-job")
        body = self._deployment_body(request, name)
        return self._written(self._deployments.pause(name, pause=bool(field(body, "Pause", False))))

    def promote(self, request: Request, name: str) -> Answer:
        """Promote the canaries of all groups, or of some."""
        self._acl.check(request.token, "submit-job")
        body = self._deployment_body(request, name)
        groups = None if field(body, "All", False) else field(body, "Groups", [])
        return self._written(self._deployments.promote(name, groups))

    def health(self, request: Request, name: str) -> Answer:
        """Set the health of allocations."""
        self._acl.check(request.token, "submit-job")
        body = self._deployment_body(request, name)
        return self._written(
            self._deployments.set_health(
                name,
                field(body, "HealthyAllocationIDs", []),
                field(body, "UnhealthyAllocationIDs", []),
            )
        )

    def _deployment_body(self, request: Request, name: str) -> Json:
        body = read_body(request)
        if not field(body, "DeploymentID"):
            raise ApiError("DeploymentID must be specified", 400)
        if field(body, "DeploymentID") != name:
            raise ApiError("Deployment ID does not match", 400)
        return body

    def _written(self, answer: Json) -> Answer:
        return as_json(answer, answer["Index"])

    def _runner(self, name: str) -> Any:
        runner = self._server.client.runner(name)
        if runner is None:
            raise ApiError(f'Unknown allocation "{name}"', 404)
        return runner

    def _index(self, table: Mapping[str, Any], name: str, kind: str) -> int:
        found = table.get(name)
        return int(found.modify_index) if found else self._state.tables[kind]

    def _one(
        self, request: Request, kind: str, table: Mapping[str, Any], name: str, missing: str
    ) -> Answer:
        def value() -> Any:
            found = table.get(name)
            if found is None:
                return ApiError(missing, 404)
            return found.full() if hasattr(found, "full") else found.json()

        return blocking(
            self._state, read_query(request), lambda: self._index(table, name, kind), value
        )

    def _list(
        self, request: Request, kind: str, table: Mapping[str, Any], fields: Any, shown: Any
    ) -> Answer:
        query = read_query(request)
        if len(query.prefix) % 2:
            raise ApiError(
                f"failed to list: Invalid UUID prefix: odd length {len(query.prefix)}", 400
            )

        def value() -> Any:
            items = [
                each for name, each in table.items()
                if name.startswith(query.prefix) and query.namespace in ("*", each.key[0])
            ]  # fmt: skip
            items.sort(key=lambda each: (each.create_index, each.id))
            return listed(query, items, fields, lambda e: f"{e.create_index}.{e.id}", shown)

        return blocking(self._state, query, lambda: self._state.tables[kind], value)
