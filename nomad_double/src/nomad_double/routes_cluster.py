"""The API's routes for the cluster: agent, nodes, namespaces, garbage and the event stream.

Tools read these before they do anything, for instance to find the version of Nomad, so their
answers have what tools look at.
"""

from __future__ import annotations

import json
import queue
from collections.abc import Callable, Iterator
from typing import Any

from mlservice.jobspec.versions import at_least
from nomad_double.acl import DENIED, MANAGEMENT, Acl
from nomad_double.api import Api
from nomad_double.events import Subscription
from nomad_double.node import DATACENTER, IP
from nomad_double.queries import field, read_answer, read_body, read_query
from nomad_double.refusal import ApiError
from nomad_double.server import Server
from nomad_double.transport import Answer, Request, as_json

Json = dict[str, Any]
_HEARTBEAT_SECONDS = 30.0
_LEADER = f"{IP}:4647"
_JOB_TOPICS = ("Job", "Allocation", "Evaluation", "Deployment", "Service")


class ClusterRoutes:
    """Handlers for everything that belongs to no job."""

    def __init__(self, server: Server, acl: Acl, collect: Callable[[], None]) -> None:
        """Answer from ``server``; ``collect`` collects the garbage."""
        self._server = server
        self._state = server.state
        self._acl = acl
        self._collect = collect

    def add_to(self, api: Api) -> None:
        """Add the routes."""
        api.add("GET", "/v1/agent/self", self.agent)
        api.add("GET", "/v1/agent/health", self.health)
        api.add("GET", "/v1/agent/members", self.members)
        api.add("GET", "/v1/status/leader", lambda _: as_json(_LEADER))
        api.add("GET", "/v1/status/peers", lambda _: as_json([_LEADER]))
        api.add("GET", "/v1/regions", lambda _: as_json(["global"]))
        api.add("GET", "/v1/nodes", self.nodes)
        api.add("GET", "/v1/node/:id", self.node)
        api.add("GET", "/v1/node/:id/allocations", self.node_allocations)
        api.add("GET", "/v1/operator/scheduler/configuration", self.scheduler)
        api.add("POST", "/v1/operator/scheduler/configuration", self.set_scheduler)
        api.add("GET", "/v1/namespaces", self.namespaces)
        api.add("GET", "/v1/namespace/:id", self.namespace)
        api.add("POST", "/v1/namespaces", self.put_namespace)
        api.add("POST", "/v1/namespace", self.put_namespace)
        api.add("POST", "/v1/namespace/:id", self.put_namespace)
        api.add("GET", "/v1/acl/token/self", self.token)
        api.add("POST", "/v1/system/gc", self.collect)
        api.add("GET", "/v1/event/stream", self.events)

    def agent(self, request: Request) -> Answer:
        """Answer with the parts of the agent's configuration and statistics that tools read."""
        self._acl.check(request.token, "agent:read")
        version = self._server.version
        return as_json(
            {
                "config": {
                    "Region": "global", "Datacenter": DATACENTER,
                    "NodeName": self._server.node.name,
                    "Version": {"Version": version, "VersionPrerelease": "", "Revision": "double"},
                    "ACL": {"Enabled": self._acl.on}, "Client": {"Enabled": True},
                    "Server": {"Enabled": True}, "BindAddr": IP,
                    "Plugins": [],
                },
                "member": self._member(),
                "stats": {
                    "nomad": {"server": "true", "leader": "true", "leader_addr": _LEADER},
                    "client": {"node_id": self._server.node.id},
                    "runtime": {"version": "double"},
                },
            }
        )  # fmt: skip

    def health(self, _: Request) -> Answer:
        """Answer that the agent is well."""
        well = {"ok": True, "message": "ok"}
        return as_json({"client": well, "server": well})

    def members(self, _: Request) -> Answer:
        """Answer with the servers."""
        return as_json(
            {"ServerName": self._server.node.name, "ServerRegion": "global", "ServerDC": DATACENTER,
             "Members": [self._member()]}
        )  # fmt: skip

    def nodes(self, request: Request) -> Answer:
        """Answer with stubs of the nodes."""
        self._acl.check(request.token, "node:read")
        query = read_query(request)
        node = self._server.node
        stub = node.stub()
        if request.arg("resources") in ("true", "1"):
            stub["NodeResources"] = node.json()["NodeResources"]
        if request.arg("os") in ("true", "1") or query.filter:
            stub["Attributes"] = {"os.name": node.attributes["os.name"]}
        return read_answer([stub] if node.id.startswith(query.prefix) else [], 9)

    def node(self, request: Request, name: str) -> Answer:
        """Answer with one node."""
        self._acl.check(request.token, "node:read")
        if name != self._server.node.id:
            raise ApiError("node not found", 404)
        return read_answer(self._server.node.json(), 9)

    def node_allocations(self, request: Request, name: str) -> Answer:
        """Answer with the full allocations of a node."""
        self._acl.check(request.token, "node:read")
        with self._state.lock:
            found = [a.full() for a in self._state.allocs.values() if a.node_id == name]
        return read_answer(found, self._state.tables["allocs"])

    def scheduler(self, request: Request) -> Answer:
        """Answer with the scheduler's configuration."""
        self._acl.check(request.token, "operator:read")
        return as_json(
            {
                "SchedulerConfig": {
                    "SchedulerAlgorithm": "binpack",
                    "MemoryOversubscriptionEnabled": self._server.oversubscription,
                    "RejectJobRegistration": self._server.rejects_jobs,
                    "PauseEvalBroker": False,
                    "PreemptionConfig": {
                        "SystemSchedulerEnabled": True, "SysBatchSchedulerEnabled": False,
                        "BatchSchedulerEnabled": False, "ServiceSchedulerEnabled": False,
                    },
                    "CreateIndex": 5, "ModifyIndex": 5,
                },
                "Index": 5, "LastContact": 0, "KnownLeader": True, "NextToken": "",
            }
        )  # fmt: skip

    def set_scheduler(self, request: Request) -> Answer:
        """Change the scheduler's configuration. What the request leaves out is off."""
        self._acl.check(request.token, MANAGEMENT)
        body = read_body(request)
        oversubscription = bool(field(body, "MemoryOversubscriptionEnabled", False))
        self._server.oversubscription = oversubscription
        self._server.client.settings.oversubscription = oversubscription
        self._server.rejects_jobs = bool(field(body, "RejectJobRegistration", False))
        with self._state.write() as index:
            return as_json({"Updated": True, "Index": index}, index)

    def namespaces(self, _: Request) -> Answer:
        """Answer with all namespaces."""
        found = [each for _, each in sorted(self._state.namespaces.items())]
        return read_answer(found, max(each["ModifyIndex"] for each in found))

    def namespace(self, _: Request, name: str) -> Answer:
        """Answer with one namespace."""
        found = self._state.namespaces.get(name)
        if found is None:
            raise ApiError("Namespace not found", 404)
        return read_answer(found, found["ModifyIndex"])

    def put_namespace(self, request: Request, name: str = "") -> Answer:
        """Create a namespace."""
        self._acl.check(request.token, MANAGEMENT)
        body = read_body(request)
        return self._made(field(body, "Name") or name, field(body, "Description", ""))

    def _made(self, name: str, description: str) -> Answer:
        with self._state.write() as index:
            default = self._state.namespaces["default"]
            self._state.namespaces[name] = {
                **default, "Name": name, "Description": description, "CreateIndex": index,
                "ModifyIndex": index,
            }  # fmt: skip
        return as_json(None, index)

    def token(self, request: Request) -> Answer:
        """Answer with the token of the request."""
        return read_answer(self._acl.describe(request.token), 5)

    def collect(self, request: Request) -> Answer:
        """Collect the garbage. Only PUT is allowed."""
        if request.method != "PUT":
            raise ApiError("Invalid method", 405)
        self._acl.check(request.token, MANAGEMENT)
        self._collect()
        return Answer()

    def events(self, request: Request) -> Answer:
        """Answer with a stream of changes, one line for each entry of the log."""
        subscription = Subscription(_topics(request), request.arg("namespace") or "default")
        index = request.arg("index") or "0"
        if not index.isdigit():
            raise ApiError(
                f'Unable to parse index: strconv.ParseUint: parsing "{index}": invalid syntax', 400
            )
        for topic in subscription.topics:
            needed = "read-job" if topic in _JOB_TOPICS else "node:read"
            if not self._acl.allows(request.token, MANAGEMENT if topic == "*" else needed):
                raise ApiError(DENIED, 403)
        # From 2.0 on only the end of the connection marks the end of the stream.
        chunked = not at_least(self._server.version, "2.0.0")
        return Answer(stream=self._lines(subscription, int(index)), chunked=chunked)

    def _lines(self, subscription: Subscription, index: int) -> Iterator[bytes]:
        with self._state.lock:
            reader = self._state.broker.follow(index)
        try:
            yield b"{}\n"
            while True:
                try:
                    entry = reader.get(timeout=_HEARTBEAT_SECONDS)
                except queue.Empty:
                    yield b"{}\n"
                    continue
                if entry is None:
                    return
                found = [
                    change.json(entry[0]) for change in entry[1] if subscription.matches(change)
                ]
                if found:
                    yield json.dumps({"Index": entry[0], "Events": found}).encode() + b"\n"
        finally:
            with self._state.lock:
                self._state.broker.leave(reader)

    def _member(self) -> Json:
        return {
            "Name": f"{self._server.node.name}.global", "Addr": IP, "Port": 4648, "Status": "alive",
            "Tags": {"region": "global", "dc": DATACENTER, "build": self._server.version,
                     "role": "nomad", "bootstrap": "1"},
            "ProtocolMin": 1, "ProtocolMax": 5, "ProtocolCur": 2, "DelegateMin": 2,
            "DelegateMax": 5, "DelegateCur": 4,
        }  # fmt: skip


def _topics(request: Request) -> dict[str, frozenset[str]]:
    found: dict[str, set[str]] = {}
    for text in request.query.get("topic", ["*"]):
        topic, *keys = text.split(":")
        if len(keys) > 1:
            raise ApiError(
                f"Invalid topic query: Invalid key value pair for topic, topic: {text}", 400
            )
        found.setdefault(topic, set()).add(keys[0] if keys else "*")
    return {topic: frozenset(keys) for topic, keys in found.items()}
