"""The environment of a task, and the values for ``${...}`` in its configuration.

A job usually reads its inputs from here, so a missing or misspelled variable is a common mistake in
job files. A task gets little of the double's own environment, as on a real node.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nomad_double.node import DATACENTER, Node
from nomad_double.objects import Allocation

Json = dict[str, Any]
_INHERITED = ("PATH", "HOME", "LANG")
_INHERITED_PREFIX = "MLSERVICE_TEST_"
_REFERENCE = re.compile(r"\$\{([^}]+)\}")
_INDEXED = re.compile(r'(env|meta)\["([^"]+)"\]')


def nomad_environment(
    alloc: Allocation, group: Json, task: Json, alloc_folder: Path
) -> dict[str, str]:
    """Return the NOMAD_* variables of a task."""
    job, folder = alloc.job, alloc_folder / task["Name"]
    resources = task["Resources"]
    found = {
        "NOMAD_ALLOC_DIR": str(alloc_folder / "alloc"),
        "NOMAD_TASK_DIR": str(folder / "local"),
        "NOMAD_SECRETS_DIR": str(folder / "secrets"),
        "NOMAD_MEMORY_LIMIT": str(resources["MemoryMB"]),
        "NOMAD_CPU_LIMIT": str(resources["CPU"]),
        "NOMAD_ALLOC_ID": alloc.id,
        "NOMAD_SHORT_ALLOC_ID": alloc.id[:8],
        "NOMAD_ALLOC_NAME": alloc.name,
        "NOMAD_ALLOC_INDEX": str(alloc.number),
        "NOMAD_TASK_NAME": task["Name"],
        "NOMAD_GROUP_NAME": group["Name"],
        "NOMAD_JOB_ID": job["ID"],
        "NOMAD_JOB_NAME": job["Name"],
        "NOMAD_DC": DATACENTER,
        "NOMAD_REGION": job["Region"],
        "NOMAD_NAMESPACE": job["Namespace"],
    }
    if resources["MemoryMaxMB"] > 0:
        found["NOMAD_MEMORY_MAX_LIMIT"] = str(resources["MemoryMaxMB"])
    if job["ParentID"]:
        found["NOMAD_JOB_PARENT_ID"] = job["ParentID"]
    for port in alloc.resources["Shared"]["Ports"] or []:
        found |= _port(port)
    return found | meta_environment(merged_meta(job, group, task), job)


def merged_meta(job: Json, group: Json, task: Json) -> dict[str, str]:
    """Return the meta that a task sees: its own, over the group's, over the job's."""
    return {**(job["Meta"] or {}), **(group["Meta"] or {}), **(task["Meta"] or {})}


def meta_environment(meta: Mapping[str, str], job: Json) -> dict[str, str]:
    """Return NOMAD_META_*: each key as it is and in capitals.

    Optional keys that were not given are empty.
    """
    found: dict[str, str] = {}
    optional = (job["ParameterizedJob"] or {}).get("MetaOptional") or ()
    for key in (*optional, *meta):
        clean = re.sub(r"[^A-Za-z0-9_.]", "_", key)
        found[f"NOMAD_META_{clean.upper()}"] = meta.get(key, "")
        found[f"NOMAD_META_{clean}"] = meta.get(key, "")
    return found


def inherited(environ: Mapping[str, str]) -> dict[str, str]:
    """Return what a task gets from the double's own environment."""
    return {
        name: value
        for name, value in environ.items()
        if name in _INHERITED or name.startswith(_INHERITED_PREFIX)
    }


def task_environment(
    own: Mapping[str, str], job_env: Mapping[str, str], node: Node
) -> dict[str, str]:
    """Return NOMAD_* and the ``env`` block. Its values may use each other and the node."""
    found = dict(own)
    for name, value in job_env.items():
        found[re.sub(r"[^A-Za-z0-9_.]", "_", name)] = filled_in(value, own, node)
    for name, value in job_env.items():
        clean = re.sub(r"[^A-Za-z0-9_.]", "_", name)
        found[clean] = filled_in(value, found, node)
    return inherited(os.environ) | found


def filled_in(value: Any, environment: Mapping[str, str], node: Node) -> Any:
    """Replace ``${NOMAD_X}``, ``${attr.x}`` and the like; unknown names stay."""
    if isinstance(value, dict):
        return {key: filled_in(item, environment, node) for key, item in value.items()}
    if isinstance(value, list):
        return [filled_in(item, environment, node) for item in value]
    if not isinstance(value, str):
        return value
    return _REFERENCE.sub(lambda found: _known(found, environment, node), value)


def _known(found: re.Match[str], environment: Mapping[str, str], node: Node) -> str:
    name = found[1].strip()
    indexed = _INDEXED.fullmatch(name)
    if indexed and indexed[1] == "env":
        return environment.get(indexed[2], found[0])
    if name in environment:
        return environment[name]
    if name.startswith("attr."):
        return node.attributes.get(name.removeprefix("attr."), found[0])
    known = {
        "node.unique.id": node.id, "node.unique.name": node.name, "node.datacenter": DATACENTER,
        "node.region": "global", "node.class": "", "node.pool": "default",
    }  # fmt: skip
    return known.get(name, found[0])


def _port(port: Json) -> dict[str, str]:
    label, ip, value = port["Label"], port["HostIP"], port["Value"]
    inside = port["To"] or value
    found = {
        f"NOMAD_IP_{label}": ip, f"NOMAD_PORT_{label}": str(inside),
        f"NOMAD_ADDR_{label}": f"{ip}:{value}", f"NOMAD_HOST_IP_{label}": ip,
        f"NOMAD_HOST_PORT_{label}": str(value), f"NOMAD_HOST_ADDR_{label}": f"{ip}:{value}",
        f"NOMAD_ALLOC_PORT_{label}": str(inside),
    }  # fmt: skip
    return {re.sub(r"[^A-Za-z0-9_.]", "_", name): text for name, text in found.items()}
