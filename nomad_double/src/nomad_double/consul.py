"""Registers services and their checks in a real Consul.

Consul does the checking itself, so the checks of a job are tried as they will be in production. A
double of Consul would only repeat what we believe about it.
"""

from __future__ import annotations

import http.client
import json
import logging
import threading
import time
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from mlservice.jobspec.durations import format_duration
from nomad_double.objects import Allocation

Json = dict[str, Any]
_TIMEOUT_SECONDS = 5.0
_FRESH_SECONDS = 0.4  # Nomad reads the checks twice a second
log = logging.getLogger("nomad_double")


class ConsulAgent:
    """The agent at ``host:port``. Threads may share it."""

    def __init__(self, address: str) -> None:
        """Keep the address; nothing is sent yet."""
        self._address = address
        self._lock = threading.Lock()
        self._checks: dict[str, Json] = {}
        self._read_at = 0.0

    def register(self, service: Json, checks: list[Json]) -> None:
        """Register a service and its checks, or update them."""
        self._put("/v1/agent/service/register", service)
        for check in checks:
            self._put("/v1/agent/check/register", check)

    def deregister(self, name: str) -> None:
        """Remove a service with its checks, if it is there."""
        self._put(f"/v1/agent/service/deregister/{name}", None)

    def statuses(self, checks: Collection[str]) -> dict[str, str] | None:
        """Return the status of each check by its ID; None if Consul is away.

        A check that Consul does not know is critical.
        """
        with self._lock:
            if time.monotonic() - self._read_at > _FRESH_SECONDS:
                try:
                    self._checks = json.loads(self._send("GET", "/v1/agent/checks", None))
                except (OSError, ValueError, http.client.HTTPException):
                    return None
                self._read_at = time.monotonic()
            found = {name: self._checks.get(name) for name in checks}
            return {name: check["Status"] if check else "critical" for name, check in found.items()}

    def _put(self, path: str, body: Json | None) -> None:
        """Send a request, and once more if it fails. Nomad's client retries in the background."""
        for left in (1, 0):
            try:
                self._send("PUT", path, body)
            except (OSError, http.client.HTTPException) as error:
                if not left:
                    log.warning("consul %s: %s: %s", self._address, path, error)
                continue
            return

    def _send(self, method: str, path: str, body: Json | None) -> bytes:
        connection = http.client.HTTPConnection(self._address, timeout=_TIMEOUT_SECONDS)
        try:
            connection.request(method, path, json.dumps(body) if body is not None else None)
            answer = connection.getresponse()
            data = answer.read()
            if answer.status != http.client.OK and "deregister" not in path:
                log.warning("consul %s %s: %s %s", method, path, answer.status, data[:200])
            return data
        finally:
            connection.close()


class Registration:
    """The services of one allocation in Consul."""

    def __init__(
        self, agent: ConsulAgent, alloc: Allocation, environment: Mapping[str, str]
    ) -> None:
        """Keep the agent; ``environment`` fills in names and tags."""
        self._agent = agent
        self._environment = environment
        self._alloc = alloc
        self._registered: dict[str, list[str]] = {}

    def register(self, alloc: Allocation, owner: str, services: list[Json]) -> None:
        """Register services of ``owner``: a task's name, or ``group-NAME``."""
        self._alloc = alloc
        for service in services:
            if service["Provider"] == "consul":
                entry, checks = self._entry(service, owner)
                self._agent.register(entry, checks)
                self._registered[entry["ID"]] = [check["ID"] for check in checks]

    def deregister(self) -> None:
        """Remove all services of the allocation."""
        for name in list(self._registered):
            self._agent.deregister(name)
            self._registered.pop(name, None)

    def statuses(self) -> dict[str, str] | None:
        """Return the status of each check; None if Consul is away."""
        return self._agent.statuses([c for checks in self._registered.values() for c in checks])

    def check_id(self, service: Json, owner: str, check: Json) -> str:
        """Return the ID under which a check is registered."""
        return f"_nomad-check-{self._service_id(service, owner)}-{check['Name']}".replace(" ", "-")

    def _service_id(self, service: Json, owner: str) -> str:
        name = self._filled(service["Name"])
        return f"_nomad-task-{self._alloc.id}-{owner}-{name}-{service['PortLabel']}"

    def _entry(self, service: Json, owner: str) -> tuple[Json, list[Json]]:
        canary = self._alloc.canary
        tags = service["CanaryTags"] if canary and service["CanaryTags"] else service["Tags"]
        meta = service["CanaryMeta"] if canary and service["CanaryMeta"] else service["Meta"]
        ip, port = self._address_of(service["PortLabel"])
        name = self._service_id(service, owner)
        entry = {
            "ID": name,
            "Name": self._filled(service["Name"]),
            "Tags": [self._filled(tag) for tag in tags or []],
            "Address": self._filled(service["Address"]) or ip,
            "Port": port,
            "Meta": {"external-source": "nomad", **(meta or {})},
            "EnableTagOverride": service["EnableTagOverride"],
        }
        return entry, list(self._checks(service, owner, name))

    def _checks(self, service: Json, owner: str, name: str) -> Iterator[Json]:
        for check in service["Checks"] or []:
            ip, port = self._address_of(check["PortLabel"] or service["PortLabel"])
            yield {
                "ID": self.check_id(service, owner, check),
                "Name": check["Name"],
                "ServiceID": name,
                "Status": check["InitialStatus"] or "critical",
                "Interval": format_duration(check["Interval"]),
                "Timeout": format_duration(check["Timeout"]),
                "SuccessBeforePassing": check["SuccessBeforePassing"],
                "FailuresBeforeCritical": check["FailuresBeforeCritical"],
                **_probe(check, f"{ip}:{port}"),
            }

    def _address_of(self, label: str) -> tuple[str, int]:
        for port in self._alloc.resources["Shared"]["Ports"] or []:
            if port["Label"] == label:
                return port["HostIP"], port["Value"]
        return "127.0.0.1", int(label) if label.isdigit() else 0

    def _filled(self, text: str) -> str:
        for name, value in self._environment.items():
            text = text.replace("${" + name + "}", value)
        return text


def _probe(check: Json, where: str) -> Json:
    if check["Type"] == "http":
        scheme = check["Protocol"] or "http"
        return {
            "HTTP": f"{scheme}://{where}{check['Path']}",
            "Method": check["Method"] or "GET",
            "Header": check["Header"] or {},
            "Body": check["Body"],
            "TLSSkipVerify": check["TLSSkipVerify"],
        }
    if check["Type"] == "grpc":
        service = f"/{check['GRPCService']}" if check["GRPCService"] else ""
        return {
            "GRPC": f"{where}{service}",
            "GRPCUseTLS": check["GRPCUseTLS"],
            "TLSSkipVerify": check["TLSSkipVerify"],
        }
    if check["Type"] == "tcp":
        return {"TCP": where}
    return {"TTL": "1h"}  # a script check: the double does not run it, so it stays critical
