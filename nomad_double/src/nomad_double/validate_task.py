"""The errors of a task, its services, checks and templates, in Nomad's words.

They are apart from those of jobs and groups only because there are many.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from mlservice.jobspec.durations import SECOND, format_duration

Json = dict[str, Any]
_CHECKS = ("http", "tcp", "grpc", "script")
_DNS = re.compile(r"^(?i:[a-z0-9]|[a-z0-9][a-z0-9-]{0,61}[a-z0-9])$")


def service_errors(service: Json, labels: set[str]) -> Iterator[str]:
    """Return the errors of a service; ``labels`` are the group's ports."""
    name = service["Name"]
    if not _DNS.match(re.sub(r"\$\{[^}]*\}", "x", name)):
        yield (
            f"Service name must be valid per RFC 1123 and can contain only alphanumeric characters "
            f'or dashes and must be less than 63 characters long: "{name}"'
        )
    port = service["PortLabel"]
    if port and port not in labels and not port.isdigit():
        yield f'port label "{port}" referenced by services {name} does not exist'
    for check in service["Checks"] or []:
        yield from _check(check, service)


def _check(check: Json, service: Json) -> Iterator[str]:
    where = f'Check "{check["Name"]}" in service "{service["Name"]}"'
    if check["Type"] not in _CHECKS:
        yield f"{where} is invalid: invalid check type ({check['Type']!r})".replace("'", '"')
        return
    if service["Provider"] == "nomad" and check["Type"] not in ("http", "tcp"):
        kind = check["Type"]
        yield f'{where} is invalid: invalid check type ("{kind}"), must be one of tcp, http'
    for field in ("Interval", "Timeout"):
        if check[field] < SECOND:
            kind = field.lower()
            value = format_duration(check[field])
            yield f"{where} is invalid: {kind} ({value}) cannot be lower than 1s"
    if check["Type"] == "http" and not check["Path"]:
        yield f"{where} is invalid: http type must have http path"
    if check["Type"] == "script" and not check["Command"]:
        yield f"{where} is invalid: script type must have a valid script path"
    if check["Type"] != "script" and not (check["PortLabel"] or service["PortLabel"]):
        yield (
            f"{where} is invalid: {check['Type']} check requires a port but neither check nor "
            "service have a port"
        )


def task_errors(task: Json, group: Json, labels: set[str], job: Json) -> Iterator[str]:
    """Return the errors of a task."""
    if not task["Name"]:
        yield "Missing task name"
    elif re.search(r"[/\\]", task["Name"]):
        yield "Task name cannot include slashes"
    if not task["Driver"]:
        yield "Missing task driver"
    if task["KillTimeout"] < 0:
        yield "KillTimeout must be a positive value"
    resources = task["Resources"]
    if resources["MemoryMB"] < 10:
        yield (
            "Task Resources validation failed: MemoryMB is less than the minimum value of 10 MB; "
            f"got {resources['MemoryMB']}"
        )
    if resources["MemoryMaxMB"] > 0 and resources["MemoryMaxMB"] < resources["MemoryMB"]:
        yield (
            f"MemoryMaxMB value ({resources['MemoryMaxMB']}) should be larger than MemoryMB value "
            f"({resources['MemoryMB']})"
        )
    logs = task["LogConfig"]
    if group["EphemeralDisk"]["SizeMB"] <= logs["MaxFiles"] * logs["MaxFileSizeMB"]:
        yield (
            f"log storage ({logs['MaxFiles'] * logs['MaxFileSizeMB']} MB) must be less than "
            f"requested disk capacity ({group['EphemeralDisk']['SizeMB']} MB)"
        )
    if task["Vault"]:
        yield f'Vault "{task["Vault"]["Cluster"]}" not enabled but used in the job'
    for service in task["Services"] or []:
        yield from service_errors(service, labels)
    for template in task["Templates"] or []:
        yield from _template(template)
    payload = task["DispatchPayload"]
    if payload is not None:
        yield from _payload(payload.get("File") or "", job)


def _payload(file: str, job: Json) -> Iterator[str]:
    if job["ParameterizedJob"] is None and not job["Dispatched"]:
        return
    if not file:
        yield "Dispatch Payload file must be set"
    elif _escapes(f"local/{file}"):
        yield f'Invalid destination path: destination escapes task directory "{file}"'


def _template(template: Json) -> Iterator[str]:
    mode = template["ChangeMode"]
    if not template["SourcePath"] and not template["EmbeddedTmpl"]:
        yield "Must specify a source path or have an embedded template"
    if not template["DestPath"]:
        yield "Must specify a destination for the template"
    elif _escapes(template["DestPath"]):
        yield "template destination escapes allocation directory"
    if mode not in ("noop", "restart", "signal", "script"):
        yield f'Invalid change mode given: "{mode}"'
    if mode == "signal" and not template["ChangeSignal"]:
        yield "Must specify signal value when change mode is signal"
    if mode == "signal" and template["Envvars"]:
        yield "cannot use signals with env var templates"
    if mode == "script" and not (template["ChangeScript"] or {}).get("Command"):
        yield "must specify script path value when change mode is script"
    if template["Splay"] < 0:
        yield "Must specify positive splay value"
    wait = template["Wait"]
    if wait and wait["Min"] > wait["Max"]:
        least, most = format_duration(wait["Min"]), format_duration(wait["Max"])
        yield f"wait min {least} is greater than max {most}"


def _escapes(path: str) -> bool:
    depth = 0
    for part in re.sub(r"^\$\{[A-Z_]+\}/?", "", path).split("/"):
        depth += {"": 0, ".": 0, "..": -1}.get(part, 1)
        if depth < -1:
            return True
    return False
