"""Parses the text of a jobspec, with the text of its variables, into one job."""

from __future__ import annotations

from typing import Any

from mlservice.jobspec.decode import decode
from mlservice.jobspec.diagnostics import refuse
from mlservice.jobspec.durations import SECOND
from mlservice.jobspec.keys import job_table
from mlservice.jobspec.source import Block, Body, read_body
from mlservice.jobspec.variables import job_scope, read_locals, read_values

_FILE = "input.hcl"  # Nomad's name for the text of a request
_TOP = {"variable": 1, "variables": 0, "locals": 0, "job": 1}
Json = dict[str, Any]


def parse_job(text: str, variables: str, version: str) -> Json:
    """Return the job as JSON with unset fields null.

    Raises ``HclError`` with Nomad's diagnostics. ``variables`` is the text of a var file.
    """
    body = read_body(text, _FILE)
    _check_top(body)
    values = read_values(body, variables)
    scope = job_scope(values, read_locals(body, values))
    block = _only_job(body)
    job = decode(block.body, job_table(version), scope)
    return _normalised(job, block.labels[0])


def _check_top(body: Body) -> None:
    for argument in body.arguments:
        raise refuse(
            argument.name_place, "Unsupported argument",
            f'An argument named "{argument.name}" is not expected here.',
        )  # fmt: skip
    for block in body.blocks:
        if block.kind not in _TOP:
            raise refuse(
                block.kind_place, "Unsupported block type",
                f'Blocks of type "{block.kind}" are not expected here.',
            )  # fmt: skip
        if len(block.labels) < _TOP[block.kind]:
            raise refuse(
                block.place, f"Missing name for {block.kind}",
                f"All {block.kind} blocks must have 1 labels (name).",
            )  # fmt: skip
        if len(block.labels) > _TOP[block.kind]:
            raise refuse(
                block.place, f"Extraneous label for {block.kind}",
                f"Only {_TOP[block.kind]} labels (name) are expected for {block.kind} blocks.",
            )  # fmt: skip


def _only_job(body: Body) -> Block:
    jobs = [block for block in body.blocks if block.kind == "job"]
    if not jobs:
        raise refuse(None, "Missing job block", "A job block is required")
    if len(jobs) > 1:
        raise refuse(
            jobs[1].place, "Duplicate job block",
            f'Only one block of type "job" is allowed. Previous definition was at {jobs[0].place}.',
        )  # fmt: skip
    return jobs[0]


def _normalised(job: Json, label: str) -> Json:
    """Set what Nomad sets while it parses, even without ``Canonicalize``."""
    job["ID"] = job.get("ID") or label
    job["Name"] = job.get("Name") or label
    if job.get("Periodic") and (job["Periodic"].get("Spec") or job["Periodic"].get("Specs")):
        job["Periodic"]["SpecType"] = "cron"
    for group in job.get("TaskGroups") or []:
        _sort_ports(group.get("Networks"))
        for task in group.get("Tasks") or []:
            _sort_ports((task.get("Resources") or {}).get("Networks"))
            for template in task.get("Templates") or []:
                _set_defaults(
                    template,
                    ChangeMode="restart",
                    Perms="0644",
                    Splay=5 * SECOND,
                    ErrMissingKey=False,
                )
            if task.get("Vault"):
                _set_defaults(task["Vault"], Env=True, ChangeMode="restart")
    return job


def _sort_ports(networks: list[Json] | None) -> None:
    for network in networks or []:
        ports = network.get("DynamicPorts") or []
        network["ReservedPorts"] = [p for p in ports if (p.get("Value") or 0) > 0] or None
        network["DynamicPorts"] = [p for p in ports if (p.get("Value") or 0) <= 0] or None


def _set_defaults(block: Json, **defaults: Any) -> None:
    for key, value in defaults.items():
        if block.get(key) is None:
            block[key] = value
