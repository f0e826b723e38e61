"""The one node of the cluster: its capacity, what is claimed, and what fits.

The reasons why a group does not fit are Nomad's own AllocMetric, because that is all that a caller
learns about a job that waits.
"""

from __future__ import annotations

import os
import platform
import re
import socket
import uuid
from collections import Counter
from typing import Any

from nomad_double.constraints import holds

Json = dict[str, Any]
DATACENTER = "dc1"
IP = "127.0.0.1"
_DISK_MB = 1_000_000
_PORTS = range(20_000, 32_000)
_LINUX_SIGNALS = (
    "SIGABRT,SIGALRM,SIGBUS,SIGCHLD,SIGCONT,SIGFPE,SIGHUP,SIGILL,SIGINT,SIGIO,SIGIOT,SIGKILL,SIGPIPE,"
    "SIGPROF,SIGQUIT,SIGSEGV,SIGSTOP,SIGSYS,SIGTERM,SIGTRAP,SIGTSTP,SIGTTIN,SIGTTOU,SIGURG,SIGUSR1,"
    "SIGUSR2,SIGWINCH,SIGXCPU,SIGXFSZ"
)


class Node:
    """Capacity and claims. The state's lock protects it."""

    def __init__(
        self, version: str, memory_mb: int, cpu_mhz: int, drivers: tuple[str, ...], consul: bool
    ) -> None:
        """Make a node in ``dc1`` with these drivers."""
        self.id = str(uuid.uuid4())
        self.name = socket.gethostname()
        self.version = version
        self.capacity = {"memory": memory_mb, "cpu": cpu_mhz, "disk": _DISK_MB}
        self.drivers = drivers
        self.attributes = _attributes(version, drivers, memory_mb, cpu_mhz, consul)
        self.down = False
        self.refusal = ""
        self._used: Counter[str] = Counter()
        self._claims: dict[str, tuple[dict[str, int], tuple[int, ...]]] = {}
        self._ports: set[int] = set()
        self._next_port = os.getpid() % len(_PORTS)

    def replaced(self) -> None:
        """Let another machine of the same kind take the node's place."""
        self.id = str(uuid.uuid4())

    def misfit(self, job: Json, group: Json) -> Json | None:
        """Return why the group cannot be placed, as an AllocMetric; None if it can."""
        filtered = self._filtered(job, group)
        if filtered:
            return _metric(filtered=filtered, available=self._available(job))
        if self.refusal:
            return _metric(exhausted=self.refusal)
        need = needs(group)
        for dimension in ("cpu", "memory", "disk"):
            if self._used[dimension] + need[dimension] > self.capacity[dimension]:
                return _metric(exhausted=dimension)
        taken = next((p for p in _static_ports(group) if p in self._ports), None)
        if taken is not None:
            return _metric(
                exhausted=f"network: reserved port collision {_label(group, taken)}={taken}"
            )
        return None

    def room_for(self, need: dict[str, int]) -> bool:
        """Whether the resources are free. This is faster than ``misfit``."""
        return all(self._used[name] + need[name] <= self.capacity[name] for name in need)

    def claim(self, alloc: str, group: Json) -> list[Json]:
        """Claim the group's resources and ports; return the ports in an allocation's form."""
        need = needs(group)
        ports = [
            self._port(port) for network in group["Networks"] or [] for port in _ports(network)
        ]
        self._used.update(need)
        numbers = tuple(port["Value"] for port in ports)
        self._ports.update(numbers)
        self._claims[alloc] = need, numbers
        return ports

    def release(self, alloc: str) -> bool:
        """Release the claims of an allocation; False if it had none."""
        claim = self._claims.pop(alloc, None)
        if claim is None:
            return False
        self._used.subtract(claim[0])
        self._ports.difference_update(claim[1])
        return True

    def json(self) -> Json:
        """Return the API's Node."""
        healthy = {
            "Detected": True,
            "Healthy": True,
            "HealthDescription": "Healthy",
            "Attributes": {},
        }
        return {
            **self.stub(), "Attributes": self.attributes, "Meta": {}, "Links": {},
            "Drivers": dict.fromkeys(self.drivers, healthy), "HTTPAddr": f"{IP}:4646",
            "NodeResources": {
                "Cpu": {"CpuShares": self.capacity["cpu"]},
                "Memory": {"MemoryMB": self.capacity["memory"]},
                "Disk": {"DiskMB": self.capacity["disk"]},
            },
            "ReservedResources": {"Cpu": {"CpuShares": 0}, "Memory": {"MemoryMB": 0}},
        }  # fmt: skip

    def stub(self) -> Json:
        """Return the node as lists show it."""
        return {
            "ID": self.id, "Name": self.name, "Datacenter": DATACENTER, "NodeClass": "",
            "NodePool": "default", "Address": IP, "Version": self.version, "Drain": False,
            "SchedulingEligibility": "eligible", "Status": "down" if self.down else "ready",
            "StatusDescription": "", "Drivers": {
                driver: {"Detected": True, "Healthy": True} for driver in self.drivers
            }, "CreateIndex": 7, "ModifyIndex": 9,
        }  # fmt: skip

    def _available(self, job: Json) -> dict[str, int]:
        return {name: int(_matches_datacenter(name)) for name in job["Datacenters"] if name != "*"}

    def _filtered(self, job: Json, group: Json) -> str:
        if self.down or not any(_matches_datacenter(name) for name in job["Datacenters"]):
            return "-"
        for task in group["Tasks"] or []:
            if task["Driver"] not in self.drivers:
                return "missing drivers"
        rules = [*(job["Constraints"] or []), *(group["Constraints"] or [])]
        rules += [rule for task in group["Tasks"] or [] for rule in task["Constraints"] or []]
        for rule in rules:
            if not self._holds(rule):
                return f"{rule.get('LTarget') or ''} {rule['Operand']} {rule.get('RTarget') or ''}"
        return ""

    def _holds(self, rule: Json) -> bool:
        left, right = self._target(rule.get("LTarget")), self._target(rule.get("RTarget"))
        operand = rule.get("Operand") or "="
        if operand in ("distinct_hosts", "distinct_property"):
            return True
        if operand in ("is_set", "is_not_set"):
            return (left is not None) == (operand == "is_set")
        if operand in ("!=", "not"):
            return left != right
        if left is None or right is None:
            return False
        return holds(operand, left, right)

    def _target(self, text: str | None) -> str | None:
        """Return the value of ``${attr.x}`` and the like on this node, else the text itself."""
        found = re.fullmatch(r"\$\{(attr|node|meta)\.(.+)\}", text or "")
        if not found:
            return text or ""
        if found[1] == "attr":
            return self.attributes.get(found[2])
        known = {
            "unique.id": self.id, "unique.name": self.name, "datacenter": DATACENTER, "class": "",
            "pool": "default", "region": "global",
        }  # fmt: skip
        return known.get(found[2]) if found[1] == "node" else None

    def _port(self, port: Json) -> Json:
        return {
            "Label": port["Label"], "Value": port["Value"] or self._free_port(),
            "To": max(0, port["To"]), "HostIP": IP, "HostNetwork": port["HostNetwork"],
        }  # fmt: skip

    def _free_port(self) -> int:
        for _ in _PORTS:
            self._next_port = (self._next_port + 1) % len(_PORTS)
            port = _PORTS[self._next_port]
            if port not in self._ports and _is_free(port):
                return port
        raise RuntimeError(f"no port of {_PORTS.start}-{_PORTS.stop} is free: stop some programs")


def needs(group: Json) -> dict[str, int]:
    """Return what one allocation of the group needs: MB of memory, MHz of CPU, MB of disk."""
    tasks = group["Tasks"] or []
    return {
        "cpu": sum(task["Resources"]["CPU"] for task in tasks),
        "memory": sum(task["Resources"]["MemoryMB"] for task in tasks),
        "disk": group["EphemeralDisk"]["SizeMB"],
    }


def placed_metric() -> Json:
    """Return the AllocMetric of a successful placement."""
    return _metric()


def _metric(
    filtered: str = "", exhausted: str = "", available: dict[str, int] | None = None
) -> Json:
    everywhere = available is not None and "-" in filtered
    return {
        "NodesEvaluated": 0 if everywhere else 1,
        "NodesFiltered": int(bool(filtered) and not everywhere),
        "NodesInPool": 1, "NodePool": "default",
        "NodesAvailable": available if available is not None else {DATACENTER: 1},
        "ClassFiltered": None,
        "ConstraintFiltered": {filtered: 1} if filtered and not everywhere else None,
        "NodesExhausted": int(bool(exhausted)), "ClassExhausted": None,
        "DimensionExhausted": {exhausted: 1} if exhausted else None, "QuotaExhausted": None,
        "ResourcesExhausted": None, "Scores": None, "ScoreMetaData": None,
        "AllocationTime": 20_000, "CoalescedFailures": 0,
    }  # fmt: skip


def _matches_datacenter(pattern: str) -> bool:
    return bool(re.fullmatch(re.escape(pattern).replace(r"\*", ".*"), DATACENTER))


def _ports(network: Json) -> list[Json]:
    return [*(network["ReservedPorts"] or []), *(network["DynamicPorts"] or [])]


def _static_ports(group: Json) -> list[int]:
    return [p["Value"] for net in group["Networks"] or [] for p in net["ReservedPorts"] or []]


def _label(group: Json, value: int) -> str:
    found: str = next(
        port["Label"]
        for network in group["Networks"] or []
        for port in network["ReservedPorts"] or []
        if port["Value"] == value
    )
    return found


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((IP, port))
        except OSError:
            return False
    return True


def _attributes(
    version: str, drivers: tuple[str, ...], memory_mb: int, cpu_mhz: int, consul: bool
) -> dict[str, str]:
    found = {
        "kernel.name": "linux", "kernel.version": platform.release(), "arch": "amd64",
        "cpu.arch": "amd64", "os.name": "debian", "os.version": "12", "os.signals": _LINUX_SIGNALS,
        "cpu.numcores": str(os.cpu_count() or 1), "cpu.totalcompute": str(cpu_mhz),
        "memory.totalbytes": str(memory_mb * 1024 * 1024), "nomad.version": version,
        "nomad.service_discovery": "true", "unique.hostname": socket.gethostname(),
        "unique.network.ip-address": IP,
    }  # fmt: skip
    if consul:
        found |= {"consul.version": "1.8.7", "consul.datacenter": DATACENTER}
    for driver in drivers:
        found[f"driver.{driver}"] = "1"
    return found
