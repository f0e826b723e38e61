"""A running double for its own tests, which use it over HTTP as any client uses Nomad."""

from __future__ import annotations

import base64
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import requests

from nomad_double import NomadDouble

Json = dict[str, Any]
NEVER = {"Attempts": 0, "Unlimited": False}
SECOND = 1_000_000_000


@dataclass
class Cluster:
    """A double, and short calls of its API."""

    double: NomadDouble
    session: requests.Session

    def request(
        self, method: str, path: str, body: Any = None, **options: Any
    ) -> requests.Response:
        """One request; options go to requests."""
        return self.session.request(
            method, f"{self.double.address}{path}", json=body, timeout=60, **options
        )

    def get(self, path: str, **parameters: Any) -> Any:
        """The JSON of a read that works."""
        answer = self.request("GET", path, params=parameters)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def post(self, path: str, body: Any = None, **parameters: Any) -> Any:
        """The JSON of a write that works."""
        answer = self.request("POST", path, body, params=parameters)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def register(self, job: Json) -> Json:
        """Register a job."""
        found: Json = self.post("/v1/jobs", {"Job": job})
        return found

    def dispatch(self, parent: str, payload: bytes = b"", token: str = "", **meta: str) -> Json:
        """Dispatch a child."""
        body: Json = {"Meta": meta}
        if payload:
            body["Payload"] = base64.b64encode(payload).decode()
        parameters = {"idempotency_token": token} if token else {}
        found: Json = self.post(f"/v1/job/{parent}/dispatch", body, **parameters)
        return found

    def alloc_once_dead(self, job: str) -> Json:
        """The newest allocation of a job, once the job is dead."""
        eventually(lambda: self.get(f"/v1/job/{job}")["Status"] == "dead")
        return self.newest_alloc(job)

    def newest_alloc(self, job: str) -> Json:
        """The newest allocation of a job, as soon as it has one."""
        found: list[Json] = eventually(lambda: self.get(f"/v1/job/{job}/allocations"))
        return max(found, key=lambda alloc: (alloc["CreateIndex"], alloc["ModifyIndex"]))

    def log(self, alloc: Json, kind: str = "stdout", **options: Any) -> str:
        """A task's log."""
        parameters = {"task": "t", "type": kind, "plain": "true", **options}
        answer = self.request("GET", f"/v1/client/fs/logs/{alloc['ID']}", params=parameters)
        assert answer.status_code == 200, answer.text
        return answer.text

    def deployment(self, job: str) -> Json:
        """The job's latest deployment, as soon as it has one."""
        found: Json = eventually(lambda: self.get(f"/v1/job/{job}/deployment"))
        return found


@contextmanager
def running_cluster(folder: Path, **options: Any) -> Iterator[Cluster]:
    """A running double."""
    with NomadDouble(folder, **options) as double, requests.Session() as session:
        yield Cluster(double, session)


def shell_task(script: str, **task: Any) -> Json:
    """A task that runs a script."""
    return {
        "Name": "t", "Driver": "raw_exec",
        "Config": {"command": "/bin/sh", "args": ["-c", script]},
        "Resources": {"CPU": 10, "MemoryMB": 50}, **task,
    }  # fmt: skip


SLEEP = shell_task("sleep 300")
TRUE = shell_task("true")


def batch_job(name: str, task: Json, group: Json | None = None, **job: Any) -> Json:
    """A batch job of one task, which is tried once."""
    once = {"Attempts": 0, "Mode": "fail"}
    base = {"Name": "g", "RestartPolicy": once, "ReschedulePolicy": NEVER, "Tasks": [task]}
    return {"ID": name, "Type": "batch", "TaskGroups": [{**base, **(group or {})}], **job}


def parameterized_job(name: str, task: Json, **block: Any) -> Json:
    """A parameterized batch job."""
    return batch_job(name, task, ParameterizedJob=block)


def service_job(name: str, task: Json, group: Json | None = None, **update: Any) -> Json:
    """A service of one group, whose deployments go quickly."""
    quick = {
        "MinHealthyTime": SECOND // 5, "HealthyDeadline": 4 * SECOND,
        "ProgressDeadline": 6 * SECOND, "HealthCheck": "task_states", **update,
    }  # fmt: skip
    once = {"Attempts": 0, "Mode": "fail"}
    base = {
        "Name": "g", "RestartPolicy": once, "ReschedulePolicy": NEVER, "Update": quick,
        "Tasks": [task],
    }  # fmt: skip
    return {"ID": name, "TaskGroups": [{**base, **(group or {})}]}


def ended(cluster: Cluster, job: str, version: int) -> Json:
    """The deployment of a version, once it is over."""

    def look() -> list[Json]:
        every: list[Json] = cluster.get(f"/v1/job/{job}/deployments")
        return [d for d in every if d["JobVersion"] == version and d["Status"] != "running"]

    return eventually(look)[0]  # type: ignore[no-any-return]  # JSON


def live(cluster: Cluster, job: str) -> list[Json]:
    """The allocations that are meant to run and do, by their names."""
    every = cluster.get(f"/v1/job/{job}/allocations")
    running = [a for a in every if a["ClientStatus"] in ("pending", "running")]
    running = [alloc for alloc in running if alloc["DesiredStatus"] == "run"]
    return sorted(running, key=lambda alloc: (alloc["Name"], alloc["CreateIndex"]))


def task_events(alloc: Json, task: str = "t") -> list[Json]:
    """The events of an allocation's task."""
    found: list[Json] = (alloc["TaskStates"] or {}).get(task, {}).get("Events", [])
    return found


def event_types(alloc: Json, task: str = "t") -> list[str]:
    """The types of an allocation's events."""
    return [event["Type"] for event in task_events(alloc, task)]


def event_details(alloc: Json, kind: str) -> dict[str, str]:
    """The details of the last event of that type."""
    found: dict[str, str] = [e for e in task_events(alloc) if e["Type"] == kind][-1]["Details"]
    return found


def eventually(condition: Callable[[], Any], seconds: float = 30.0) -> Any:
    """What ``condition`` gives as soon as it is true; fails after ``seconds``."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if found := condition():
            return found
        time.sleep(0.03)
    raise AssertionError(f"not within {seconds:.0f} s")
